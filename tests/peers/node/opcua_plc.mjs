// A PLC that we did not write: npm's node-opcua-client. One JSON object a line: commands come in, answers and events go out.
//
//   node opcua_plc.mjs '{"endpoint": "opc.tcp://...", "security": "encrypted", "certificate": FILE, "key": FILE,
//                        "pki": FOLDER, "applicationUri": URI, "user": NAME, "password": TEXT, "heartbeatMs": 100,
//                        "events": ["server", "vision"], "publishingMs": 10, "queue": 1000, "ack": "write" | "call" | "follow" | "",
//                        "stallAfter": N, "stallMs": MS}'
//
// "write" and "call" acknowledge each result when its event comes; "follow" whatever Handshake.ResultNumber shows, which is right
// also after an overrun: an event does not say whether its result found room.
//
// It says {"what": "ready"} when it is connected. Commands: {"id": 1, "do": "read" | "write" | "call" | "browse" | "watch" |
// "end", ...}; each is answered by {"what": "answer", "id": 1, ...}. Every event: {"what": "event", "at": microseconds since
// 1970 when it arrived, "source": ..., and its fields}.

import readline from "node:readline";
import client_module from "node-opcua-client";
import certificates from "node-opcua-certificate-manager";

const {
  AttributeIds, DataType, MessageSecurityMode, OPCUAClient, SecurityPolicy, StatusCodes, TimestampsToReturn, UserTokenType,
  Variant, VariantArrayType, coerceNodeId, constructEventFilter, ofType,
} = client_module;
const { OPCUACertificateManager } = certificates;

const options = JSON.parse(process.argv[2]);
const say = (message) => process.stdout.write(`${JSON.stringify(message, plain)}\n`);
const OWN = "urn:linegate:gateway";
const FIELDS = [
  "EventId", "EventType", "SourceName", "Message", "Severity", "ResultId", "PartId", "JobId", "IsSimulated", "ResultState",
  "ExternalRecipeId", "ProductId", "CreationTime", "ResultContent", "ExternalId", "FromState", "ToState", "Transition",
];
const OWN_FIELDS = [
  "ResultNumber", "ResultEvaluation", "Accept", "Reason", "Score", "Threshold", "RegionCount", "Box", "BoxArea",
  "StationEpoch", "StationSequence", "TriggerNumber", "RecipeNumber", "PartIdText",
];
let session, subscription, client, own, vision, beat = 0, seen = 0, stalled = Promise.resolve();
let last = 0;

// 64-bit numbers come as [high, low]; nothing here exceeds 2**53.
function plain(_key, value) {
  if (value instanceof Variant) return value.value;
  if (value && value.type === "Buffer") return Buffer.from(value.data).toString("hex");
  if (typeof value === "bigint") return Number(value);
  return value;
}

const wide = (value) => Array.isArray(value) && value.length === 2 ? value[0] * 2 ** 32 + value[1] : value;
const node = (name) => name.includes("=") ? name : `ns=${own};s=${name}`;

async function connect() {
  const pki = new OPCUACertificateManager({ rootFolder: options.pki, automaticallyAcceptUnknownCertificate: true });
  await pki.initialize();
  const isEncrypted = options.security === "encrypted";
  client = OPCUAClient.create({
    applicationName: "peer", applicationUri: options.applicationUri, endpointMustExist: false,
    certificateFile: options.certificate, privateKeyFile: options.key, clientCertificateManager: pki,
    securityMode: isEncrypted ? MessageSecurityMode.SignAndEncrypt : MessageSecurityMode.None,
    securityPolicy: isEncrypted ? SecurityPolicy[options.policy ?? "Basic256Sha256"] : SecurityPolicy.None,
    connectionStrategy: { maxRetry: 0, initialDelay: 50, maxDelay: 100 }, transportTimeout: 8000,
  });
  await client.connect(options.endpoint);
  const user = options.user
    ? { type: UserTokenType.UserName, userName: options.user, password: options.password }
    : { type: UserTokenType.Anonymous };
  session = await client.createSession(user);
  const namespaces = await session.readNamespaceArray();
  own = namespaces.indexOf(OWN);
  vision = namespaces.indexOf("http://opcfoundation.org/UA/MachineVision");
  // It would fetch the structures' definitions when the first event comes, and be a second late with it.
  await session.constructExtensionObject(coerceNodeId(`ns=${vision};i=3006`), {});
}

function write(name, dataType, value) {
  const toWrite = { nodeId: node(name), attributeId: AttributeIds.Value, value: { value: { dataType: DataType[dataType], value } } };
  return session.write(toWrite);
}

async function acknowledge(number) {
  if (number === last) return;
  last = number;
  if (options.ack !== "call") await write("Handshake.AckNumber", "UInt16", number);
  if (options.ack === "call") await call("Handshake", "Handshake.Acknowledge", [{ type: "UInt16", value: number }]);
}

async function subscribe(sources) {
  subscription = await session.createSubscription2({
    requestedPublishingInterval: options.publishingMs ?? 10, requestedLifetimeCount: 10000, requestedMaxKeepAliveCount: 100,
    maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 10,
  });
  const names = [...FIELDS.map((field) => field), ...OWN_FIELDS.map((field) => `${own}:${field}`)];
  const standard = new Set(["EventId", "EventType", "SourceName", "Message", "Severity", "FromState", "ToState", "Transition"]);
  const paths = names.map((name) => (name.includes(":") || standard.has(name) ? name : `${vision}:${name}`));
  for (const source of sources) {
    const filter = constructEventFilter(paths, options.onlyResults ? ofType(coerceNodeId(`ns=${vision};i=1024`)) : undefined);
    const item = await subscription.monitor(
      { nodeId: source === "server" ? "i=2253" : node("VisionSystem"), attributeId: AttributeIds.EventNotifier },
      { samplingInterval: 0, queueSize: options.queue ?? 1000, discardOldest: true, filter }, TimestampsToReturn.Both);
    say({ what: "subscribed", source, status: item.statusCode?.name, queue: item.monitoringParameters.queueSize });
    item.on("changed", (values) => {
      const at = Math.round((performance.timeOrigin + performance.now()) * 1000);
      const event = { what: "event", at, source };
      [...FIELDS, ...OWN_FIELDS].forEach((name, place) => { event[name] = simple(name, values[place]?.value); });
      say(event);
      if (options.ack !== "follow" && source === sources[0] && event.ResultNumber) answer(event.ResultNumber);
    });
  }
}

// The handshake as it is meant: whatever is shown is taken over, then acknowledged.
async function follow() {
  const item = await subscription.monitor({ nodeId: node("Handshake.ResultNumber"), attributeId: AttributeIds.Value },
    { samplingInterval: 0, queueSize: 100, discardOldest: true }, TimestampsToReturn.Both);
  item.on("changed", (data) => { if (data.value.value) answer(data.value.value); });
}

function simple(name, value) {
  if (value === null || value === undefined) return null;
  if (["ResultId", "PartId", "JobId", "ProductId", "ExternalRecipeId", "ExternalId"].includes(name)) {
    return { type: value.constructor.name, id: value.id, version: value.version };
  }
  if (value.text !== undefined) return value.text;
  if (name === "StationEpoch") return wide(value);
  if (name === "EventType") return value.toString();
  if (name === "Box") return Array.from(value);
  return value;
}

// One after the other, and not at all while it is told to stall.
function answer(number) {
  if (!options.ack) return;
  seen += 1;
  const pause = seen === options.stallAfter ? options.stallMs : 0;
  stalled = stalled.then(() => pause && new Promise((done) => setTimeout(done, pause)))
    .then(() => acknowledge(number)).catch((error) => say({ what: "error", error: error.message }));
}

async function call(objectId, methodId, given = []) {
  const inputArguments = await Promise.all(given.map(argument));
  const result = await session.call({ objectId: node(objectId), methodId: node(methodId), inputArguments });
  return { status: result.statusCode.name, outputs: (result.outputArguments ?? []).map(typed) };
}

async function argument({ type, value, structure, array }) {
  if (structure) {
    const made = await session.constructExtensionObject(coerceNodeId(`ns=${vision};i=${structure}`), value);
    return { dataType: DataType.ExtensionObject, value: made };
  }
  return { dataType: DataType[type], arrayType: array ? VariantArrayType.Array : VariantArrayType.Scalar, value };
}

function typed(variant) {
  const { value } = variant;
  if (variant.dataType !== DataType.ExtensionObject) return value;
  const one = (each) => each && { type: each.constructor.name, ...each.toJSON() };
  return Array.isArray(value) ? value.map(one) : one(value);
}

const COMMANDS = {
  async read({ nodes }) {
    const values = await session.read(nodes.map((name) => ({ nodeId: node(name), attributeId: AttributeIds.Value })));
    return { values: values.map((each) => (each.value.dataType === DataType.UInt64 ? wide(each.value.value) : typed(each.value))),
      status: values.map((each) => each.statusCode.name), types: values.map((each) => DataType[each.value.dataType]) };
  },
  async write({ values }) {
    const wanted = values.map(({ node: name, type, value }) => ({
      nodeId: node(name), attributeId: AttributeIds.Value, value: { value: { dataType: DataType[type], value } },
    }));
    return { status: (await session.write(wanted)).map((code) => code.name) };
  },
  call: ({ object, method, args }) => call(object, method, args),
  async browse({ node: name }) {
    const found = await session.browse(node(name));
    return { names: (found.references ?? []).map((each) => each.browseName.name), status: found.statusCode.name };
  },
  // Every pair of numbers at the ends of the block, until told to end: torn if they differ.
  async tear({ times, nodes }) {
    let torn = 0;
    for (let time = 0; time < times; time += 1) {
      const { values } = await COMMANDS.read({ nodes });
      if (values[0] !== values[values.length - 1]) torn += 1;
    }
    return { torn };
  },
  async watch({ node: name }) {
    const item = await subscription.monitor({ nodeId: node(name), attributeId: AttributeIds.Value },
      { samplingInterval: 0, queueSize: 100, discardOldest: true }, TimestampsToReturn.Both);
    item.on("changed", (data) => say({ what: "value", node: name, value: typed(data.value), status: data.statusCode.name }));
    return { status: item.statusCode?.name ?? "Good" };
  },
  async heartbeat({ everyMs }) { options.heartbeatMs = everyMs; return {}; },
};

async function main() {
  await connect();
  if (options.events?.length) await subscribe(options.events);
  if (options.ack === "follow") await follow();
  const pulse = async () => {
    if (options.heartbeatMs) {
      beat = (beat + 1) & 0xffff;
      const code = await write("Handshake.PlcHeartbeat", "UInt16", beat).catch(() => null);
      if (code && code !== StatusCodes.Good) say({ what: "beat", status: code.name });
    }
    setTimeout(pulse, options.heartbeatMs || 50).unref();
  };
  if (options.heartbeatMs) { await pulse(); }
  say({ what: "ready", namespaces: { own, vision } });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { id, do: name, ...rest } = JSON.parse(line);
    if (name === "end") break;
    try {
      say({ what: "answer", id, ...(await COMMANDS[name](rest)) });
    } catch (error) {
      say({ what: "answer", id, error: error.message });
    }
  }
  await session.close(true);
  await client.disconnect();
}

main().then(() => process.exit(0)).catch((error) => {
  say({ what: "failed", error: error.message });
  process.exit(3);
});
