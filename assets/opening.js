// Runs before Gradio: first in the head, where page.js runs half a second after the first tab can be clicked.
(() => {
    // A browser that keeps nothing, cookies and site data blocked, refuses even to be asked. Gradio's frontend would end there.
    try {
        localStorage.getItem("flux_demo_visitor");
    } catch {
        const kept = new Map();
        Object.defineProperty(window, "localStorage", {
            value: {
                getItem: (name) => kept.get(name) ?? null,
                setItem: (name, value) => void kept.set(name, String(value)),
                removeItem: (name) => void kept.delete(name),
                clear: () => kept.clear(),
                key: (index) => [...kept.keys()][index] ?? null,
                get length() { return kept.size; },
            },
        });
    }

    // Windows that a new visitor opens together all get the key that the first of them drew: the browser creates a database only once, also over
    // plain http. If it keeps none, the key is empty, and the program draws one.
    window.firstKey = () => new Promise((resolve) => {
        const none = () => resolve("");
        setTimeout(none, 3000);
        try {
            const opening = indexedDB.open("flux_demo");
            opening.onerror = none;
            opening.onupgradeneeded = () => {
                const drawn = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))));
                opening.result.createObjectStore("visitor").add(drawn.replaceAll("+", "-").replaceAll("/", "_"), "key");
            };
            opening.onsuccess = () => {
                const database = opening.result;
                if (!database.objectStoreNames.contains("visitor")) return none(); // another program's, at the same address
                const reading = database.transaction("visitor").objectStore("visitor").get("key");
                reading.onerror = none;
                reading.onsuccess = () => resolve(reading.result);
                database.close();
            };
        } catch { none(); }
    });

    // Gradio's editor sends what was painted twice: with each event, as an upload, and beside it under a name that stands in for the paint at the
    // next event. The server takes uploads only. So the other way never ends, and no event has a name where its paint should be.
    const send = window.fetch;
    window.fetch = (address, ...more) => {
        const where = String(address?.url ?? address);
        if (where.endsWith("/component_server/")) return new Promise(() => {});
        const answer = send(address, ...more);
        if (where.endsWith("/app_id")) note(answer);
        return answer;
    };

    // When a connection is cut, Gradio asks the program for its number every two seconds, until it answers and the page is opened anew.
    const note = (answer) => answer.catch(() => ({ ok: false }))
        .then(({ ok }) => document.documentElement.classList.toggle("unanswered", !ok));

    // Gradio's loading screen counts its seconds sixty times a second, and never stops when it is gone: seven per cent of a core, for as long as
    // the page is open. The module that counts gets frames that never come; nothing else on this page shows its seconds.
    const frame = window.requestAnimationFrame;
    const setFrame = (found) => Object.defineProperty(window, "requestAnimationFrame", { configurable: true, ...found });
    setFrame({
        get() {
            if (!new Error().stack.includes("/statustracker-")) return frame;
            setFrame({ writable: true, value: frame });
            return () => 0;
        },
        set(other) { setFrame({ writable: true, value: other }); },
    });

    // Gives the module of Gradio's with that name, once the browser has loaded it.
    const whenLoaded = (name, use) => new PerformanceObserver(async (loaded, observer) => {
        const module = loaded.getEntries().find((each) => name.test(each.name));
        if (!module) return;
        observer.disconnect();
        use(await import(module.name));
    }).observe({ type: "resource", buffered: true });

    // At an event's end Gradio takes its inputs for streams, and tells each of them of every event from then on: dozens of updates between a
    // slider and its map, hundreds between a click and its image. Nothing streams here.
    whenLoaded(/\/statustracker-[^/]*\.js$/, (module) => {
        const states = Object.values(module).find((each) => each?.prototype?.resolve_args)?.prototype;
        const all = states?.resolve_args;
        if (all) states.resolve_args = function (event) { return all.call(this, event).filter(({ type }) => type === "output"); };
    });

    // For each component Gradio reads all events, to find those that it listens to: an eighth of the browser's work when the page opens. They
    // are read once here, for all components.
    whenLoaded(/\/core-[^/]*\.js$/, ({ AppTree }) => {
        if (!AppTree?.prototype.find_attached_events) return;
        const found = new WeakMap();  // for each list of events: a component's number -> the names of the events that it listens to
        AppTree.prototype.find_attached_events = (node, events) => {
            if (!found.has(events)) found.set(events, namesOf(events));
            node.props.shared_props.attached_events = found.get(events).get(node.id) ?? [];
            return node;
        };
    });
    const namesOf = (events) => {
        const names = new Map();
        for (const { targets } of events)
            for (const [id, name] of new Map([...targets].reverse()))  // the first of an event's names for a component counts, as in Gradio
                if (name) names.set(id, [...names.get(id) ?? [], name]);
        return names;
    };

    // What is typed or chosen is kept in the window too, with its time: where the program does not answer, Gradio opens the page anew once it does.
    const lately = {}, storage = "flux_demo_lately";
    try {
        Object.assign(lately, JSON.parse(sessionStorage.getItem(storage)));
    } catch { /* the browser keeps nothing */ }
    const LONGEST = 10_000;  // characters of a prompt; the program takes no longer text, and would not open a page that brings one
    const keep = (name, value) => {
        if (String(value).length > LONGEST) delete lately[name];
        else lately[name] = [value, Date.now()];
        try {
            sessionStorage.setItem(storage, JSON.stringify(lately));
        } catch { /* the browser keeps nothing */ }
    };
    // By name each value, and how many seconds ago it was put in; clocks need not agree.
    window.doneLately = () => Object.fromEntries(Object.entries(lately).map(([name, [value, at]]) => [name, [value, (Date.now() - at) / 1000]]));

    // The tab and the values of a person who is faster than the page count more than those that were remembered; ui/opening.py brings them back.
    window.doneWhileOpening = { tab: null, typed: {}, over: false };
    document.addEventListener("click", (event) => {
        const tab = event.target.closest?.("#modes [role=tab]");
        if (!tab) return;
        window.doneWhileOpening.tab = tab.id;
        keep("tab", tab.id.replace(/^tab-|-button$/g, ""));
    }, true);
    document.addEventListener("input", (event) => {
        const field = event.target.closest?.(".typed");
        const { type, value, checked } = event.target;
        if (!field || type === "text" && field.matches(".size")) return;
        const put = type === "checkbox" ? checked : /number|range|radio/.test(type) && value && !isNaN(value) ? Number(value) : value;
        window.doneWhileOpening.typed[field.id] = put;
        keep(field.id, put);
    }, true);

    // The list of sizes tells nobody but Gradio what was chosen in it, and shows that in words, such as "512 × 512, square".
    let sizeBefore = "";
    document.addEventListener("focusin", ({ target }) => { sizeBefore = target.value; });
    document.addEventListener("focusout", ({ target }) => setTimeout((before) => {
        const field = target.closest(".size.typed"), sides = field && target.value !== before && /(\d+)\D+(\d+)/.exec(target.value);
        if (sides) keep(field.id, window.doneWhileOpening.typed[field.id] = `${sides[1]}x${sides[2]}`);
    }, 0, sizeBefore));

    // A click on Generate, or on what fills in a part of the form, waits until that is as it was left and the page knows whose it is, ten
    // seconds at most.
    const isReady = () => window.doneWhileOpening.over && localStorage.getItem("flux_demo_visitor");
    const starts = "button.run, .run button, button.compare, .compare button, button.ratio, button.swap, button.auto, [id^=examples-] button";
    const held = [];
    let waited = false;
    document.addEventListener("click", (event) => {
        const start = event.target.closest?.(starts);
        if (!start || waited || isReady()) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        if (!held.includes(start)) held.push(start);
        if (held.length > 1) return;
        const until = performance.now() + 10_000;
        const again = () => {
            waited = performance.now() > until;
            if (!(waited || isReady())) return setTimeout(again, 50);
            for (const each of held.splice(0)) each.click();
        };
        again();
    }, true);
})();
