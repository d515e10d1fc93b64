// Alternative texts, and the names that Gradio's frontend has in English only, in the visitor's language: as soon as each is there, and again
// when it changes. ui/languages.py has the names that no part of our own code says.
(() => {
    const ATTRIBUTES = ["aria-label", "title", "alt"];
    const within = ATTRIBUTES.map((name) => `[${name}]`).join();
    const inWords = (words, text) => {
        const [, kind, label] = /^(number input|range slider) for (.*)$/s.exec(text) ?? [];
        if (kind) return words[`${kind} for {label}`]?.replace("{label}", () => label);
        return Object.hasOwn(words, text) ? words[text] : null;
    };
    const translate = (part, words) => {
        if (part.closest("#history button")) return; // the prompts of one's images
        for (const name of ATTRIBUTES) {
            const text = inWords(words, part.getAttribute(name));
            if (text && text !== part.getAttribute(name)) part.setAttribute(name, text);
        }
    };
    new MutationObserver((changes) => {
        const words = window.gradio_config?.i18n_translations?.[document.documentElement.lang];
        if (!words) return;
        for (const { type, target, attributeName, addedNodes } of changes) {
            const whole = attributeName === "lang" ? [target] : addedNodes;
            if (type === "attributes") translate(target, words);
            for (const part of whole) {
                if (part.nodeType !== Node.ELEMENT_NODE) continue;
                translate(part, words);
                part.querySelectorAll(within).forEach((each) => translate(each, words));
            }
        }
    }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["lang", ...ATTRIBUTES] });
})();
