// Vehicles on their way to the map: a worker turns them into GeoJSON, one state of the fleet at a time, the newest next.

const SHOWN_MS = 1_500; // a map that draws itself anew may never say what became of what it was given
export const LOOK = { ok: 0, stale: 1, offline: 2 };

export class Vehicles {
  #worker = new Worker(new URL("./vehicleworker.js", import.meta.url));
  #number = new Map(); // device → its number with the worker
  #told = 0;
  #next = null;
  #busy = false;

  /** @param {(url: string) => Promise<void>|undefined} show puts what is at an address on the map */
  constructor(show) {
    this.#worker.onmessage = async ({ data: blob }) => {
      const url = URL.createObjectURL(blob);
      try {
        await Promise.race([show(url), new Promise((resolve) => setTimeout(resolve, SHOWN_MS))]);
      } catch {
        // the map was taken down meanwhile
      }
      URL.revokeObjectURL(url);
      this.#busy = false;
      if (this.#next) this.#send();
    };
  }

  /** Show these: `{device, look, moving}` each. */
  draw(vehicles) {
    this.#next = vehicles;
    if (!this.#busy) this.#send();
  }

  end() {
    this.#worker.terminate();
  }

  #send() {
    const [vehicles, n] = [this.#next, this.#next.length];
    this.#next = null;
    this.#busy = true;
    const [at, lon, lat] = [new Uint32Array(n), new Float64Array(n), new Float64Array(n)];
    const [look, moving, heading] = [new Uint8Array(n), new Uint8Array(n), new Uint16Array(n)];
    const fresh = [];
    vehicles.forEach(({ device, look: how, moving: goes }, i) => {
      let number = this.#number.get(device.id);
      if (number === undefined) {
        this.#number.set(device.id, (number = this.#number.size));
        fresh.push(device.id);
      }
      [at[i], lon[i], lat[i], look[i], moving[i]] = [number, device.lon, device.lat, LOOK[how], goes];
      heading[i] = goes ? (device.heading ?? 0) : 0;
    });
    const message = { at, lon, lat, look, moving, heading };
    if (fresh.length) Object.assign(message, { ids: fresh, from: this.#told });
    this.#told += fresh.length;
    this.#worker.postMessage(message, [at, lon, lat, look, moving, heading].map((column) => column.buffer));
  }
}
