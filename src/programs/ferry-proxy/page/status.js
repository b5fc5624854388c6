/* Keeps a page of the admin address up to date: gets it again every two seconds, and changes what differs, so that
   focus, selection, scrolling and open details stay. Without this script the page is complete, and reloads itself. */
"use strict";
(() => {
	const period = 2000;
	const notice = document.createElement("p");
	notice.className = "notice";
	notice.setAttribute("role", "status");
	notice.textContent = "The proxy does not answer. Trying again.";

	function updateAttributes(now, next) {
		for (const { name } of [...now.attributes])
			if (!next.hasAttribute(name) && name !== "open")
				now.removeAttribute(name);
		for (const { name, value } of next.attributes)
			if (now.getAttribute(name) !== value)
				now.setAttribute(name, value);
	}

	function update(now, next) {
		if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) {
			now.replaceWith(next);
			return;
		}
		if (now.nodeType !== Node.ELEMENT_NODE) {
			if (now.data !== next.data)
				now.data = next.data;
			return;
		}
		updateAttributes(now, next);
		const old = [...now.childNodes], fresh = [...next.childNodes];
		fresh.forEach((child, i) => i < old.length ? update(old[i], child) : now.append(child));
		old.slice(fresh.length).forEach((child) => child.remove());
	}

	async function refresh() {
		try {
			const answer = await fetch(location.pathname, { cache: "no-store" });
			if (!answer.ok)
				throw new Error(answer.statusText);
			const page = new DOMParser().parseFromString(await answer.text(), "text/html");
			notice.remove();
			update(document.querySelector("main"), page.querySelector("main"));
		} catch {
			document.querySelector("main").before(notice);
		}
	}

	setInterval(() => document.hidden || refresh(), period);
})();
