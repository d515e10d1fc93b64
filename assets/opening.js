// Runs before there is a page: in the head, where page.js runs half a second after the first tab can be clicked.
(() => {
    // What a person does while the page still opens counts more than what was remembered: ui/session.py brings it back then.
    window.doneWhileOpening = { tab: null, prompts: {} };
    document.addEventListener("click", (event) => {
        const tab = event.target.closest?.("#modes [role=tab]");
        if (tab) window.doneWhileOpening.tab = tab.id;
    }, true);
    document.addEventListener("input", (event) => {
        const prompt = event.target.closest?.(".prompt");
        if (prompt) window.doneWhileOpening.prompts[prompt.id] = event.target.value;
    }, true);

    // A click before the page knows whose it is waits for that, ten seconds at most. A browser that keeps nothing is not waited for.
    const knowsVisitor = () => {
        try {
            return Boolean(localStorage.getItem("flux_demo_visitor"));
        } catch {
            return true;
        }
    };
    const starts = "button.run, .run button, button.compare, .compare button";
    let held = false, waited = false;
    document.addEventListener("click", (event) => {
        const start = event.target.closest?.(starts);
        if (!start || waited || knowsVisitor()) return;
        event.preventDefault();
        event.stopImmediatePropagation();
        if (held) return;
        held = true;
        const until = performance.now() + 10_000;
        const again = () => {
            waited = performance.now() > until;
            held = !(waited || knowsVisitor());
            held ? setTimeout(again, 50) : start.click();
        };
        again();
    }, true);
})();
