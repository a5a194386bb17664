/** Dark or light: as the system is, until one is chosen. Runs before anything is painted. */

{
  const NAME = "mr-stream-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const storage = (() => {
    try {
      return localStorage;
    } catch {
      return null; // a browser that stores nothing
    }
  })();
  const chosen = storage?.getItem(NAME);
  if (chosen) root.dataset.theme = chosen;

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  const turn = () => {
    const dark = !isDark();
    if (dark === system.matches) {
      delete root.dataset.theme;
      storage?.removeItem(NAME);
    } else {
      root.dataset.theme = dark ? "dark" : "light";
      storage?.setItem(NAME, root.dataset.theme);
    }
  };

  const label = (button) => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} theme`);
  };

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.addEventListener("click", () => {
      turn();
      label(button);
    });
    system.addEventListener("change", () => label(button));
    label(button);
  });
}
