// Where every device is and when it was heard: binary deltas by WebSocket (docs/api.md), read without a word of JSON, so
// that ten thousand vehicles a second cost the page next to nothing. What a device reads is told of those watched only.
import * as api from "./api.js";
import { useEffect } from "./html.js";
import { changed, deviceOf, heardAtUs, putDevices, removeDevice } from "./store.js";

const HEAD_BYTES = 16;
const VERSION = 2;
const NOWHERE = -(2 ** 31);
const UNKNOWN = 65535;

let socket = null;
let ids = []; // by slot
let heardAt = 0;
const watched = new Map(); // device → by how many

/** Follow the fleet: `onOpen` once it does, `onLost` when it no longer can, `onReload` where the server has begun anew. */
export function open({ onOpen, onLost, onReload }) {
  close();
  const mine = new WebSocket(api.placesAddress());
  mine.binaryType = "arraybuffer";
  socket = mine;
  ids = [];
  heardAt = performance.now();
  mine.onopen = () => {
    if (mine !== socket) return;
    if (watched.size) ask();
    onOpen();
  };
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    heardAt = performance.now();
    if (typeof data !== "string") return take(data);
    const words = JSON.parse(data);
    if (words.names) words.names.ids.forEach((id, n) => (ids[words.names.from + n] = id));
    if (words.gone) for (const slot of words.gone) removeDevice(ids[slot]);
    if (words.devices) putDevices(words.devices);
    if (words.reload) onReload();
  };
  mine.onclose = () => {
    if (mine === socket) onLost();
  };
}

export function close() {
  const old = socket;
  socket = null;
  old?.close();
}

export const isOpen = () => socket?.readyState === WebSocket.OPEN;
export const silentMs = () => performance.now() - heardAt;

/** Be told all that these devices read, for as long as the component is there. */
export function useWatched(device) {
  useEffect(() => {
    if (!device) return undefined;
    watched.set(device, (watched.get(device) ?? 0) + 1);
    ask();
    return () => {
      const left = watched.get(device) - 1;
      if (left) watched.set(device, left);
      else watched.delete(device);
      ask();
    };
  }, [device]);
}

function ask() {
  if (isOpen()) socket.send(JSON.stringify({ watch: [...watched.keys()] }));
}

function take(message) {
  const head = new DataView(message);
  if (head.getUint8(0) !== VERSION) return;
  const n = head.getUint32(4, true);
  const baseMs = head.getFloat64(8, true);
  let at = HEAD_BYTES;
  const column = (Type) => {
    const found = new Type(message, at, n);
    at += found.byteLength;
    return found;
  };
  const [slot, lat, lon, age, heard] = [Uint32Array, Int32Array, Int32Array, Int32Array, Int32Array].map(column);
  const [speed, heading] = [Uint16Array, Uint16Array].map(column);
  const moved = new Array(n);
  for (let i = 0; i < n; i++) {
    const device = (moved[i] = deviceOf(ids[slot[i]]));
    heardAtUs(device, (baseMs - heard[i]) * 1000);
    device.ts_us = (baseMs - age[i]) * 1000;
    if (lat[i] === NOWHERE) continue;
    device.lat = lat[i] / 1e7;
    device.lon = lon[i] / 1e7;
    device.speed = speed[i] === UNKNOWN ? null : speed[i] / 100;
    device.heading = heading[i] === UNKNOWN ? null : heading[i] / 100;
  }
  changed("positions", moved);
}
