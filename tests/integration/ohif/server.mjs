// Serves one build of OHIF and passes DICOMweb on to the archive: one origin, so that no browser asks for CORS.
//   node server.mjs FOLDER PORT ARCHIVE_URL
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';

const [folder, port, archive] = process.argv.slice(2);
const root = path.resolve(folder);
const settings = fs.readFileSync(new URL('app-config.js', import.meta.url));
const TYPES = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.woff2': 'font/woff2',
};
const ISOLATION = {
  // OHIF decodes in workers that share memory; browsers allow that to isolated pages only
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Opener-Policy': 'same-origin',
};

function passOn(request, response) {
  const onward = http.request(new URL(request.url, archive), { method: request.method, headers: request.headers }, reply => {
    response.writeHead(reply.statusCode, reply.headers);
    reply.pipe(response);
  });
  onward.on('error', error => response.writeHead(502).end(String(error)));
  request.pipe(onward);
}

function fileOf(name) {
  const file = path.join(root, path.normalize(name));
  const isInside = file.startsWith(root + path.sep);
  return isInside && fs.statSync(file, { throwIfNoEntry: false })?.isFile() ? file : null;
}

function serve(request, response) {
  const name = decodeURIComponent(new URL(request.url, 'http://any').pathname);
  if (name.startsWith('/dicom-web/') || name === '/wado') {
    passOn(request, response);
  } else if (name === '/app-config.js') {
    response.writeHead(200, { ...ISOLATION, 'Content-Type': TYPES['.js'] }).end(settings);
  } else {
    const file = fileOf(name) ?? (path.extname(name) ? null : fileOf('index.html')); // the page has its own routes
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { ...ISOLATION, 'Content-Type': TYPES[path.extname(file)] ?? 'application/octet-stream' });
    fs.createReadStream(file).pipe(response);
  }
}

http.createServer(serve).listen(Number(port), '127.0.0.1');
