() => {
    // Ctrl+Enter runs the tab in sight, Escape stops it.
    const inSight = (selector) => [...document.querySelectorAll(selector)].find((part) => part.offsetParent !== null && !part.disabled);
    const button = (name) => inSight(`button.${name}`) || inSight(`.${name} button`);
    document.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            button("run")?.click();
        } else if (event.key === "Escape") {
            button("stop")?.click();
        }
    });

    // A picture dropped beside the photo panels is opened for its recipe; one that is pasted becomes the photo, where there is a panel for it.
    const give = (input, file) => {
        if (!input || !file) return;
        const one = new DataTransfer();
        one.items.add(file);
        input.files = one.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
    };
    const restoring = () => document.querySelector(".pictures-head input[type=file]");
    const isFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const hasItsOwnPlace = (event) => event.target.closest?.(".own .box");
    document.addEventListener("dragover", (event) => {
        if (isFile(event) && !hasItsOwnPlace(event)) event.preventDefault();
    });
    document.addEventListener("drop", (event) => {
        if (!isFile(event) || hasItsOwnPlace(event)) return;
        event.preventDefault();
        give(restoring(), event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
        const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
        if (!file) return;
        event.preventDefault();
        give(inSight(".own .box")?.querySelector("input[type=file]") ?? restoring(), file);
    });

    // Sentences of the status line are read out; step counts are not.
    const voice = document.createElement("div");
    voice.id = "voice";
    voice.setAttribute("role", "status");
    voice.setAttribute("aria-live", "polite");
    document.body.append(voice);
    let said = "";
    new MutationObserver(() => {
        const text = [...document.querySelectorAll(".status .say, .say.problem")].filter((part) => part.offsetParent !== null)
            .map((part) => part.textContent.trim()).filter((words) => words && !words.startsWith("Step ")).join(" ");
        if (text !== said) voice.textContent = said = text;
    }).observe(document.querySelector("gradio-app") ?? document.body, { childList: true, subtree: true, characterData: true });
}
