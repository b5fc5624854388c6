// An HTTP server in Node: node node_cluster.js ROOT WORKERS [LOG]. The primary prints "listening PORT", and starts a
// worker anew that dies. After SIGHUP it replaces the workers: new ones listen before the old ones are disconnected,
// which end once their connections have. Each answer appends a line to LOG, if there is one.
'use strict';
const cluster = require('cluster');
const fs = require('fs');
const http = require('http');
const path = require('path');

const [root, workers, log] = process.argv.slice(2);

function primary() {
	let leaving = new Set();
	let said = false;

	const start = (listening) => {
		const worker = cluster.fork();
		worker.on('listening', (address) => {
			if (!said)
				console.log(`listening ${address.port}`);
			said = true;
			if (listening)
				listening();
		});
	};
	cluster.on('exit', (worker) => {
		if (!leaving.delete(worker.id))
			start();
	});
	process.on('SIGHUP', () => {
		const old = Object.values(cluster.workers).filter((worker) => !leaving.has(worker.id));
		for (const worker of old) {
			start(() => {
				leaving.add(worker.id);
				worker.disconnect();
			});
		}
	});
	for (let i = 0; i < Number(workers); i++)
		start();
}

function worker() {
	const server = http.createServer((request, response) => {
		const name = request.url.split('?')[0];
		fs.readFile(path.join(root, path.normalize(name)), (error, data) => {
			if (log)
				fs.appendFileSync(log, `${request.url}\n`);
			response.writeHead(error ? 404 : 200, {'Content-Length': error ? 0 : data.length});
			response.end(error ? undefined : data);
		});
	});
	server.keepAliveTimeout = 60000;
	server.listen(0, '127.0.0.1');
}

if (cluster.isPrimary)
	primary();
else
	worker();
