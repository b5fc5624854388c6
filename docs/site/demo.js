/* Ten requests a second from the demo's page; each becomes a mark with the letter of the worker that answered it. */
"use strict";
(() => {
	const period = 100, shown = 200;
	const dots = document.getElementById("dots");
	const legend = document.getElementById("legend");
	const verdict = document.getElementById("verdict");
	const workers = new Map();
	let answered = 0, failed = 0;

	function workerOf(pid) {
		if (!workers.has(pid)) {
			const line = document.createElement("li");
			const key = document.createElement("span");
			const letter = String.fromCharCode(65 + workers.size % 26);
			key.className = `key w${workers.size % 6}`;
			key.textContent = letter;
			line.append(key, "");
			legend.prepend(line);
			workers.set(pid, { letter, style: `w${workers.size % 6}`, count: 0, line });
		}
		return workers.get(pid);
	}

	function mark(text, style) {
		const dot = document.createElement("li");
		dot.className = style;
		dot.textContent = text;
		dots.append(dot);
		if (dots.children.length > shown || dots.scrollHeight > dots.clientHeight)
			dots.firstChild.remove();
	}

	async function ask() {
		try {
			const answer = await fetch("way.json", { cache: "no-store" });
			if (!answer.ok)
				throw new Error(answer.statusText);
			const way = await answer.json();
			const worker = workerOf(way.worker);
			worker.line.lastChild.data = `process ${way.worker}: ${++worker.count} answers`;
			mark(worker.letter, worker.style);
			answered++;
		} catch {
			mark("×", "lost");
			failed++;
		}
		verdict.className = failed > 0 ? "pill bad" : "pill good";
		verdict.textContent = `${answered} answered, ${failed} lost`;
	}

	setInterval(() => document.hidden || ask(), period);
})();
