// The server's time. The laptop's own clock may be wrong or be set while the page is open; what counts is what the
// server last said, carried on by a monotonic clock.

let serverUs = Date.now() * 1000; // until the server has spoken
let heardAt = performance.now();

/** Set by what the server says of its time, microseconds since 1970. */
export function setServerTime(us) {
  serverUs = us;
  heardAt = performance.now();
}

/** The server's time now, in microseconds since 1970 UTC. */
export function nowUs() {
  return serverUs + (performance.now() - heardAt) * 1000;
}

/** Microseconds to the next whole second of the server's clock, so that clocks tick together. */
export function untilNextSecondMs() {
  return 1000 - ((nowUs() / 1000) % 1000);
}
