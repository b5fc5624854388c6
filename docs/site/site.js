"use strict";
// The switch between light and dark, and the search. The index is a script, because a page from a file may not fetch one.
(() => {
	const root = document.currentScript.dataset.root;
	const html = document.documentElement;
	const store = {
		get: () => { try { return localStorage.getItem("ferry-theme"); } catch { return null; } },
		set: (theme) => { try { localStorage.setItem("ferry-theme", theme); } catch { /* the choice holds for this page */ } },
	};
	if (store.get()) html.dataset.theme = store.get();

	const isDark = () => html.dataset.theme
		? html.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

	function score(entry, words) {
		const [title, path, brief, text] = entry;
		const name = title.toLowerCase(), about = brief.toLowerCase();
		let sum = 0;
		for (const word of words) {
			const stem = word.length > 4 ? word.replace(/(ing|ed|es|s)$/, "") : word;
			if (name === word || name === word + "()" || name === "-" + word) sum += 100;
			else if (name.startsWith(word)) sum += 40;
			else if (name.includes(word)) sum += 25;
			else if (name.includes(stem)) sum += 20;
			else if (about.includes(stem)) sum += 8;
			else if (text.includes(stem)) sum += 3;
			else return 0;
		}
		// Reasons, lists and tests are for those who look for nothing else.
		if (/^(decisions|tests)\/|^(coverage|CHANGELOG|performance|model)\./.test(path)) sum /= 10;
		return sum + (path.includes("#") ? 0 : 2) - title.length / 100;
	}

	function search(text) {
		const words = text.toLowerCase().split(/\s+/).filter(Boolean);
		if (words.length === 0) return [];
		return ferryIndex.map((entry) => [score(entry, words), entry]).filter(([sum]) => sum > 0)
			.sort((a, b) => b[0] - a[0]).slice(0, 12).map(([, entry]) => entry);
	}

	function show(list, found, asked) {
		list.replaceChildren(...found.map(([title, path, brief]) => {
			const item = document.createElement("li"), link = document.createElement("a"), small = document.createElement("small");
			link.href = root + path;
			link.textContent = title;
			small.textContent = brief;
			link.append(small);
			item.append(link);
			return item;
		}));
		if (asked && found.length === 0) {
			const item = document.createElement("li");
			item.textContent = "Nothing found";
			list.append(item);
		}
		list.hidden = !asked;
		list.dataset.query = document.getElementById("search").value;
	}

	addEventListener("DOMContentLoaded", () => {
		const button = document.getElementById("theme");
		button.hidden = false;
		button.addEventListener("click", () => {
			html.dataset.theme = isDark() ? "light" : "dark";
			store.set(html.dataset.theme);
		});

		const input = document.getElementById("search"), list = document.getElementById("found");
		let loading = null;
		const load = () => loading ??= new Promise((resolve) => {
			const script = document.createElement("script");
			script.src = root + "search-index.js";
			script.addEventListener("load", resolve);
			document.head.append(script);
		});
		const update = () => load().then(() => show(list, search(input.value), input.value.trim() !== ""));
		input.hidden = false;
		input.addEventListener("focus", load);
		input.addEventListener("input", update);
		input.addEventListener("keydown", (event) => {
			if (event.key === "Escape") { input.value = ""; list.hidden = true; }
			if (event.key === "Enter") update().then(() => list.querySelector("a")?.click());
			if (event.key === "ArrowDown") { list.querySelector("a")?.focus(); event.preventDefault(); }
		});
		list.addEventListener("keydown", (event) => {
			const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
			if (!step) return;
			(event.target.closest("li")[step]?.querySelector("a") ?? input).focus();
			event.preventDefault();
		});
		document.addEventListener("click", (event) => { if (!event.target.closest("search")) list.hidden = true; });
		document.addEventListener("keydown", (event) => {
			if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
				input.focus();
				event.preventDefault();
			}
		});
	});
})();
