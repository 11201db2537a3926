// A PLC that works in cycles over OPC UA, on npm's node-opcua-client: results come as events, the handshake is read as one
// block, and what is held is acknowledged. It prints the same lines as the PLC in C (tests/peers/libmodbus/plc.c), with
// `seq`, `epoch` and `part` from the event. `us`: microseconds of the wall clock when it was first seen.
//
//   node opcua_cyclic_plc.mjs '{"endpoint", "certificate", "key", "pki", "applicationUri", "user", "password", "pollMs",
//     "heartbeatMs", "timeoutMs", "results", "seconds", "stallAfter", "stallMs", "reset"}'

import client_module from "node-opcua-client";
import certificates from "node-opcua-certificate-manager";

const { AttributeIds, DataType, MessageSecurityMode, OPCUAClient, SecurityPolicy, TimestampsToReturn, UserTokenType,
  coerceNodeId, constructEventFilter, ofType } = client_module;
const { OPCUACertificateManager } = certificates;

const options = { pollMs: 20, heartbeatMs: 100, timeoutMs: 500, ...JSON.parse(process.argv[2]) };
const BLOCK = ["ResultNumber", "ResultValid", "Online", "OnlineReason", "Overrun", "Session", "ResultNumberEnd"];
const OWN_EVENT = ["ResultNumber", "Accept", "StationEpoch", "StationSequence"];
const wall = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const wide = (value) => Array.isArray(value) ? value[0] * 2 ** 32 + value[1] : Number(value);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const say = (line) => process.stdout.write(`${line}\n`);

const sums = { results: 0, torn: 0, gaps: 0, overwritten: 0, reads: 0 };
let session, client, own, vision, held = 0, acked = 0, last = "", number = 0, beat = 0, isStalled = false, catchesUp = false;
let ended = false, resetting = false, acknowledging = Promise.resolve();

const node = (name) => coerceNodeId(`ns=${own};s=Handshake.${name}`);
const write = (name, value) => session.write({ nodeId: node(name), attributeId: AttributeIds.Value,
  value: { value: { dataType: DataType.UInt16, value } } });
const inTime = (work) => Promise.race([work, pause(options.timeoutMs).then(() => { throw new Error("no answer"); })]);

async function connect() {
  const pki = new OPCUACertificateManager({ rootFolder: options.pki, automaticallyAcceptUnknownCertificate: true });
  await pki.initialize();
  client = OPCUAClient.create({
    applicationName: "plc", applicationUri: options.applicationUri, endpointMustExist: false,
    certificateFile: options.certificate, privateKeyFile: options.key, clientCertificateManager: pki,
    securityMode: MessageSecurityMode.SignAndEncrypt, securityPolicy: SecurityPolicy.Basic256Sha256,
    connectionStrategy: { maxRetry: 0 }, keepSessionAlive: false,
  });
  await client.connect(options.endpoint);
  session = await client.createSession({ type: UserTokenType.UserName, userName: options.user, password: options.password });
  // The client reads the server's types when the first event comes, for seconds, and holds all events back meanwhile.
  await session.extractNamespaceDataType();
  const namespaces = await session.readNamespaceArray();
  own = namespaces.indexOf("urn:linegate:gateway");
  vision = namespaces.indexOf("http://opcfoundation.org/UA/MachineVision");
}

async function subscribe() {
  const subscription = await session.createSubscription2({ requestedPublishingInterval: 5, requestedLifetimeCount: 10000,
    requestedMaxKeepAliveCount: 100, maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 10 });
  const paths = [...OWN_EVENT.map((name) => `${own}:${name}`), `${vision}:PartId`];
  const filter = constructEventFilter(paths, ofType(coerceNodeId(`ns=${vision};i=1024`)));
  const item = await subscription.monitor({ nodeId: coerceNodeId(`ns=${own};s=VisionSystem`),
    attributeId: AttributeIds.EventNotifier }, { samplingInterval: 0, queueSize: 1000, discardOldest: true, filter },
    TimestampsToReturn.Both);
  item.on("changed", (values) => take(...values.map((each) => each?.value)));
}

function take(shown, accept, epoch, seq, part) {
  const us = wall();
  if (!shown) return;
  if (number && shown !== number % 65535 + 1) sums.gaps += 1;
  number = shown;
  sums.results += 1;
  say(`result number=${shown} us=${us} accept=${accept ? 1 : 0} seq=${wide(seq)} epoch=${wide(epoch)} part=${part?.id ?? ""}`);
  if (options.stallAfter && sums.results === options.stallAfter) {
    isStalled = catchesUp = true;
    setTimeout(() => { isStalled = false; }, options.stallMs);
  } else if (!catchesUp) {
    // Fast enough for a result after the other: what has just come is what is held.
    acknowledge(shown);
  }
  if (options.results && sums.results >= options.results) ended = true;
}

function acknowledge(shown) {
  acked = shown;
  acknowledging = acknowledging.then(() => write("AckNumber", shown)).catch(() => {});
}

async function readBlock() {
  const read = BLOCK.map((name) => ({ nodeId: node(name), attributeId: AttributeIds.Value }));
  const values = (await inTime(session.read(read))).map((each) => each.value.value);
  const [shown, valid, online, reason, overrun, name, end] = values;
  sums.reads += 1;
  if (shown !== end) { sums.torn += 1; return; }
  tell(online ? 1 : 0, reason, overrun ? 1 : 0, name);
  if (valid && shown !== held) {
    // What was held may only have gone because it was acknowledged: by then `acked` was its number or a later one.
    if (held && (acked - held + 65535) % 65535 > 32767) sums.overwritten += 1;
    held = shown;
  }
  if (valid && catchesUp && !isStalled) acknowledge(shown);
  if (options.reset && (overrun || resetting)) {
    resetting = overrun && !resetting;
    await inTime(write("Command", resetting ? 1 : 0));
  }
}

function tell(online, reason, overrun, name) {
  const line = `online=${online} reason=${reason} overrun=${overrun} session=${name}`;
  if (line !== last) say(`state us=${wall()} ${line}`);
  last = line;
}

async function main() {
  await connect();
  // What waits from before is taken over first: its events have been.
  catchesUp = Boolean(options.reset);
  await subscribe();
  const end = options.seconds ? Date.now() + options.seconds * 1000 : Infinity;
  let beaten = 0;
  process.on("SIGTERM", () => { ended = true; });
  while (!ended && Date.now() < end) {
    const begun = performance.now();
    try {
      if (!isStalled) await readBlock();
      if (begun - beaten >= options.heartbeatMs) {
        beaten = begun;
        beat = (beat + 1) & 0xffff;
        await inTime(write("PlcHeartbeat", beat));
      }
    } catch {
      tell(0, -1, 0, 0);
    }
    await pause(Math.max(0, options.pollMs - (performance.now() - begun)));
  }
  say(`done ${Object.entries(sums).map(([key, value]) => `${key}=${value}`).join(" ")}`);
  await inTime(session.close(true)).catch(() => {});
  process.exit(0);
}

main().catch((error) => { process.stderr.write(`plc: ${error.message}\n`); process.exit(2); });
