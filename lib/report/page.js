// SPDX-License-Identifier: Apache-2.0
// Draws the charts of a report: each .plot by the JSON that follows it. Colours of text and grid
// are those of the page, light or dark, and light on paper. #only=3 shows chart 3 alone. Once all
// are drawn the root element says how many, and after how many milliseconds.
(() => {
  "use strict";
  const PAPER_WIDTH = 680;  // of A4 between margins of 15 mm
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")];

  function theme(isDark) {
    const text = isDark ? "#e6edf3" : "#1b1f24", grid = isDark ? "#343b44" : "#e4e8ec";
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: text, tickcolor: text };
    const found = { "font.color": text, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      "hoverlabel.bgcolor": isDark ? "#1c2128" : "#ffffff", "hoverlabel.font.color": text };
    for (const name of ["xaxis", "yaxis"])
      for (const [key, value] of Object.entries(axis)) found[`${name}.${key}`] = value;
    return found;
  }

  function complete(figure) {
    const layout = figure.layout, many = figure.data.length > 12;
    for (const name of ["xaxis", "yaxis"])
      layout[name] = { automargin: true, showline: true, ticks: "outside", ...layout[name] };
    return { margin: { l: 70, r: 20, t: 16, b: 60 }, font: { family: "system-ui, sans-serif", size: 13 },
      showlegend: figure.data.length > 1 || ![undefined, "all"].includes(figure.data[0].name), hovermode: "closest",
      legend: many ? {} : { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, ...layout };
  }

  function put(object, [name, ...rest], value) {
    if (rest.length) put(object[name] ??= {}, rest, value);
    else object[name] = value;
  }

  async function draw(plot) {
    const figure = JSON.parse(plot.nextElementSibling.textContent);
    const config = { responsive: true, displaylogo: false, displayModeBar: "hover", toImageButtonOptions: { format: "svg" } };
    const layout = complete(figure);
    for (const [path, value] of Object.entries(theme(dark.matches))) put(layout, path.split("."), value);
    await Plotly.newPlot(plot, figure.data, layout, config);
  }

  const restyle = (more) => plots.map((plot) => Plotly.relayout(plot, more));

  function show_only(number) {
    const figure = document.getElementById(`chart-${number}`);
    if (!figure) return;
    document.body.classList.add("only");
    figure.classList.add("shown");
  }

  const only = /^#only=(\d+)$/.exec(location.hash);
  if (only) show_only(only[1]);
  dark.addEventListener("change", () => restyle(theme(dark.matches)));
  addEventListener("beforeprint", () => restyle({ ...theme(false), width: PAPER_WIDTH }));
  addEventListener("afterprint", () => restyle({ ...theme(dark.matches), width: null, autosize: true }));
  const shown = only ? plots.filter((plot) => plot.closest(".shown")) : plots;
  Promise.all(shown.map(draw)).then(() => {
    Object.assign(document.documentElement.dataset, { drawn: shown.length, ms: Math.round(performance.now()) });
  });
})();
