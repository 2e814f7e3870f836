// Asks our own server. Who is not signed in any more is sent to the door.

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export function address(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(given).toString();
  return query ? `${path}?${query}` : path;
}

export async function ask(path, parameters, signal) {
  const answer = await reach(address(path, parameters), signal);
  return answer.json();
}

/** An answer that is not an error; `signal` ends the wait for it. */
export async function reach(url, signal) {
  let answer;
  try {
    answer = await fetch(url, { signal, headers: { "X-Requested-With": "fetch" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached. Check the connection and try again.");
  }
  if (answer.status === 401) {
    location.assign("/login");
    throw new ApiError(401, "You are signed out.");
  }
  if (!answer.ok) throw new ApiError(answer.status, await reason(answer));
  return answer;
}

async function reason(answer) {
  try {
    return sentence((await answer.json()).detail);
  } catch {
    return `The server answered with an error (${answer.status}).`;
  }
}

function sentence(text) {
  const begun = text[0].toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(begun) ? begun : `${begun}.`;
}
