// Requests to our own server. Without a session they lead to the login.

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export function address(path, parameters = {}) {
  const present = Object.entries(parameters).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams(present).toString();
  return query ? `${path}?${query}` : path;
}

/** The JSON of a path; `signal` aborts the request. */
export async function getJson(path, parameters, signal) {
  const response = await get(address(path, parameters), signal);
  return response.json();
}

async function get(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal, headers: { "X-Requested-With": "fetch" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server cannot be reached. Check the connection and try again.");
  }
  if (response.status === 401) {
    location.assign("/login");
    throw new ApiError(401, "You are signed out.");
  }
  if (!response.ok) throw new ApiError(response.status, await reason(response));
  return response;
}

async function reason(response) {
  try {
    return sentence((await response.json()).detail);
  } catch {
    return `The server answered with an error (${response.status}).`;
  }
}

function sentence(text) {
  const capital = text[0].toUpperCase() + text.slice(1);
  return /[.!?)]$/.test(capital) ? capital : `${capital}.`;
}
