"""Events in: records and topics, UBI ingestion, attribution, engagement, query frequency, dead letters."""
