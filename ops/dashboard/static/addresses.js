// Where the pages show what another page names.

/** The page that says why a pair has its score. */
export const whyAddress = (query, item) => `/why#pair?${new URLSearchParams({ query, item })}`;

/** The drill-down of a pair's events; `query` is normalised. */
export const eventsAddress = (query, item) => `/#look?${new URLSearchParams({ query, item })}`;

/** A judgement's place on the teacher's page, by its identity. */
export const judgementPlace = (row) =>
  `#judgement?${new URLSearchParams({ query: row.query, item: row.item_id, content: row.content_hash, teacher: row.teacher_id, prompt: row.prompt_hash })}`;
