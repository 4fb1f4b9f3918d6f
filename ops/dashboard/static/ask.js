// Questions to the API.

/** Asks the API. Throws an Error with a sentence for people. */
export async function ask(path, parameters) {
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(parameters)}`);
  } catch {
    throw new Error("The dashboard gives no answer. It is asked again as soon as it is back.");
  }
  if (response.status === 401) location.assign("/login");
  const answer = await response.json();
  if (!response.ok) throw new Error(`${response.status === 503 ? "Not available just now" : "Not possible"}: ${answer.error}`);
  return answer;
}
