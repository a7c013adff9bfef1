// Reads byte strings (one per line, in hexadecimal) as HTTP/1.1 requests with llhttp, the parser inside Node.js, and says
// for each where its messages end. Fed one byte at a time, so that the end of a message is exactly known.
'use strict';
const { HTTPParser } = process.binding('http_parser');

function read(bytes) {
  const messages = [];
  let current = null, end = 0, stop = false;
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.REQUEST, {}, 0, HTTPParser.kLenientNone);
  let lines = [], url = '';
  parser[HTTPParser.kOnHeaders | 0] = (more, target) => { lines = lines.concat(more); url += target; };
  parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, headers, method, target, status, phrase, upgrade, keep) => {
    current = { method: HTTPParser.methods ? HTTPParser.methods[method] : String(method), target: target || url, body: [] };
    stop = upgrade || !keep;
    return 0;
  };
  parser[HTTPParser.kOnBody | 0] = (piece) => { current.body.push(Buffer.from(piece)); };
  parser[HTTPParser.kOnMessageComplete | 0] = () => {
    messages.push({ end, target: current.target, body: Buffer.concat(current.body).toString('hex') });
    current = null;
    url = '';
  };
  for (let at = 0; at < bytes.length; at++) {
    end = at + 1;
    const taken = parser.execute(bytes.subarray(at, at + 1));
    if (taken instanceof Error) return { messages, refused: taken.code };
    if (stop && current === null && messages.length > 0) return { messages, refused: null, ended: true };
  }
  return { messages, refused: null };
}

const lines = require('fs').readFileSync(0, 'latin1').split('\n').filter(Boolean);
for (const line of lines) console.log(JSON.stringify(read(Buffer.from(line, 'hex'))));
