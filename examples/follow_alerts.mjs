// Follow a console's alerts from Node: node follow_alerts.mjs http://127.0.0.1:8420, with the token in TIDEGATE_TOKEN.
const SUBSCRIPTION = `
subscription ($from: String!) {
  alerts(from: $from) {
    __typename
    ... on AlertChanged { resume alert { id version device state severity title who } }
    ... on AlertRemoved { resume id }
    ... on Behind { behindMs }
    ... on Reload { reason }
  }
}`;

const server = process.argv[2].replace(/\/$/, "");
const headers = { authorization: `Bearer ${process.env.TIDEGATE_TOKEN}` };
let resume = ""; // where to go on; "" is now

function follow() {
  // Node's own WebSocket takes headers beside the protocols, which browsers' does not.
  const socket = new WebSocket(`${server.replace("http", "ws")}/api/v1/graphql`, {
    protocols: ["graphql-transport-ws"],
    headers,
  });
  const send = (message) => socket.send(JSON.stringify(message));
  socket.onopen = () => send({ type: "connection_init" });
  socket.onmessage = ({ data }) => {
    const { type, payload } = JSON.parse(data);
    if (type === "connection_ack") {
      send({ type: "subscribe", id: "1", payload: { query: SUBSCRIPTION, variables: { from: resume } } });
      console.log("following");
    } else if (type === "ping") {
      send({ type: "pong" });
    } else if (type === "next") {
      take(payload);
    } else {
      console.log(`ended: ${JSON.stringify(payload ?? null)}`);
      socket.close();
    }
  };
  socket.onerror = () => {}; // a close follows
  socket.onclose = () => setTimeout(follow, 1000);
}

function take({ data, errors }) {
  if (errors?.length) {
    console.log(`refused: ${errors[0].message}`);
    resume = "";
    return;
  }
  const event = data.alerts;
  if (event.__typename === "AlertChanged") {
    const { state, who, device, title, version } = event.alert;
    console.log(`${state}${who ? ` by ${who}` : ""}: ${device}: ${title} (v${version})`);
  } else if (event.__typename === "AlertRemoved") {
    console.log(`removed: ${event.id}`);
  } else if (event.__typename === "Behind") {
    console.log(`we were ${event.behindMs} ms behind`);
  } else if (event.__typename === "Reload") {
    // What we missed is gone: a program that keeps a list of alerts asks for it anew here.
    console.log(`reload: ${event.reason}`);
    resume = "";
  }
  if (event.resume) resume = event.resume;
}

follow();
