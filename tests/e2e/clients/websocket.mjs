// Plays a recording over a WebSocket, as a script in a browser does: URL, RTSP URI, user, password. Prints the number
// of RTP packets that have come.
import { createHash } from "node:crypto";

const [url, uri, user, password] = process.argv.slice(2);
const md5 = (text) => createHash("md5").update(text).digest("hex");
let cseq = 0, authorize = null, session = null, packets = 0, received = Buffer.alloc(0), answered = null;

const socket = new WebSocket(url, "rtsp.onvif.org");
socket.binaryType = "arraybuffer";
const fail = (why) => { console.error(why); process.exit(1); };
setTimeout(() => fail("too slow"), 25000).unref();
socket.onerror = () => fail("the WebSocket fails");
socket.onmessage = (event) => {
  if (!(event.data instanceof ArrayBuffer)) fail("a message is not binary");
  received = Buffer.concat([received, Buffer.from(event.data)]);
  for (;;) {
    if (received[0] === 0x24) {
      if (received.length < 4 || received.length < 4 + received.readUInt16BE(2)) return;
      if (received[1] === 0) packets += 1;
      received = received.subarray(4 + received.readUInt16BE(2));
    } else {
      const end = received.indexOf("\r\n\r\n");
      if (end < 0) return;
      const head = received.subarray(0, end).toString("latin1");
      const length = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
      if (received.length < end + 4 + length) return;
      const body = received.subarray(end + 4, end + 4 + length).toString("latin1");
      received = received.subarray(end + 4 + length);
      answered({ status: Number(head.split(" ")[1]), head, body });
    }
    if (packets >= 50) { console.log(packets); socket.close(); process.exitCode = 0; return; }
  }
};

const request = (method, where, ...headers) => new Promise((resolve) => {
  answered = resolve;
  cseq += 1;
  const lines = [`${method} ${where} RTSP/1.0`, `CSeq: ${cseq}`, ...headers];
  if (session) lines.push(`Session: ${session}`);
  if (authorize) lines.push(`Authorization: ${authorize(method, where)}`);
  socket.send(Buffer.from(lines.join("\r\n") + "\r\n\r\n"));
});

socket.onopen = async () => {
  if (socket.protocol !== "rtsp.onvif.org") fail("another sub-protocol");
  const challenged = await request("DESCRIBE", uri);
  if (challenged.status !== 401) fail("no challenge");
  const [, realm] = /realm="([^"]*)"/.exec(challenged.head), [, nonce] = /nonce="([^"]*)"/.exec(challenged.head);
  authorize = (method, where) => {
    const response = md5(`${md5(`${user}:${realm}:${password}`)}:${nonce}:${md5(`${method}:${where}`)}`);
    return `Digest username="${user}", realm="${realm}", nonce="${nonce}", uri="${where}", response="${response}"`;
  };
  const described = await request("DESCRIBE", uri);
  if (described.status !== 200) fail(described.head);
  const video = described.body.split("m=").find((part) => part.startsWith("video"));
  const control = `${uri}/${/a=control:(\S+)/.exec(video)[1]}`;
  const setUp = await request("SETUP", control, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1");
  if (setUp.status !== 200) fail(setUp.head);
  session = /^session: *([^;\r\n]+)/im.exec(setUp.head)[1];
  const playing = await request("PLAY", uri, "Rate-Control: no");
  if (playing.status !== 200) fail(playing.head);
};
