"""The page that shows CTR and CVR by arm, and how the system is doing."""
