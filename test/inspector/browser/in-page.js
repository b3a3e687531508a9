// Runs in the browser, before the inspector's own scripts: what tests ask of the page, and what they measure in it.
(() => {
  const one = selector => document.querySelector(selector);
  const all = selector => [...document.querySelectorAll(selector)];
  const byTestId = id => `[data-testid="${id}"]`;
  const plain = text => text.replace(/[\s\u202f]+/g, ' ').trim();
  // biome-ignore lint/performance/useDomNodeTextContent: what is not shown is not meant, and what stands apart shall do so.
  const shownText = element => plain(element.innerText);
  const frame = () => new Promise(resolve => requestAnimationFrame(resolve));

  /** After the next picture is on its way: the task that follows it. */
  const painted = async () => {
    await frame();
    await new Promise(resolve => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = resolve;
      port2.postMessage(undefined);
    });
  };

  const list = () => one(byTestId('trace-rows'));
  const rows = () =>
    [...list().querySelectorAll('.row')].map(({ dataset }) => ({ number: Number(dataset.number), kind: dataset.kind }));
  /** What is to be seen of the list, so that a change can be told. */
  const look = () => `${list().dataset.rows} ${rows().map(({ number }) => number)}`;

  /** Milliseconds from an input until the rows that it brings are painted. */
  const timed = async act => {
    const before = look();
    const began = performance.now();
    act();
    do {
      await painted();
      if (performance.now() - began > 10_000) throw new Error(`nothing changed in the list: ${before}`);
    } while (look() === before);
    return performance.now() - began;
  };

  const setField = (id, value) => {
    const field = one(byTestId(id));
    field.value = value;
    field.dispatchEvent(new Event(field.tagName === 'SELECT' ? 'change' : 'input', { bubbles: true }));
  };

  globalThis.inspectorTest = {
    state() {
      const { record: _, ...state } = globalThis.viommu.state;
      return state;
    },
    /** As JSON has them. */
    records() {
      const { record, records } = globalThis.viommu.state;
      return Array.from({ length: records.count }, (_, n) => record(records.first + n));
    },
    /** Text of every cell of every row below a selector. */
    cells(selector) {
      return all(`${selector} tr`).map(row => [...row.cells].map(cell => shownText(cell)));
    },
    /** What an attribute is in every element that has it, by a second attribute. */
    attributes(selector, key, value) {
      return Object.fromEntries(all(selector).map(element => [element.getAttribute(key), element.getAttribute(value)]));
    },
    /** All text of an element; of a picture, the words that stand apart in it. */
    text(id) {
      const element = one(byTestId(id));
      if (!(element instanceof SVGElement)) return shownText(element);
      if (element instanceof SVGTextElement) return plain(element.textContent);
      return [...element.querySelectorAll('text')].map(text => plain(text.textContent)).join(' | ');
    },
    rows,
    /** The rates and their times, as they are drawn. */
    rates() {
      const { times, series } = globalThis.viommu.store.rates;
      return { times: [...times], dma: [...series.dma], registers: [...series.registers], faults: [...series.faults] };
    },
    /** Elements whose text does not fit them: what people cannot read. */
    cutOff() {
      return all('button, th, td, h1, h2, .tools, .tabs a, svg text, dd, dt')
        .filter(element => element.checkVisibility())
        .filter(element => {
          if (element instanceof SVGElement) {
            const box = element.getBoundingClientRect();
            const whole = element.ownerSVGElement.getBoundingClientRect();
            return box.left < whole.left - 1 || box.right > whole.right + 1;
          }
          return element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0;
        })
        .map(element => `${element.tagName} ${plain(element.textContent).slice(0, 60)}`);
    },
    timeField: (id, value) => timed(() => setField(id, value)),
    timeClick: id => timed(() => one(byTestId(id)).click()),
    timeKey: key =>
      timed(() => list().dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }))),
    timeWheel: pixels =>
      timed(() => list().dispatchEvent(new WheelEvent('wheel', { deltaY: pixels, bubbles: true, cancelable: true }))),
    /** The scroll bar, 0 to 1. */
    timeScrollBar: part =>
      timed(() => {
        list().scrollTop = (list().scrollHeight - list().clientHeight) * part;
      }),
    /** Longest time between two pictures until the search is over, in milliseconds. */
    async longestFrame() {
      let longest = 0;
      let last = performance.now();
      do {
        await frame();
        const now = performance.now();
        longest = Math.max(longest, now - last);
        last = now;
      } while (one(byTestId('progress')));
      return longest;
    },
  };
})();
