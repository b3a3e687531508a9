import { useEffect, useRef } from 'preact/hooks';
import { helpShown, SHORTCUTS, VIEW_KEYS } from '../keyboard.ts';

export function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  const isShown = helpShown.value;
  useEffect(() => {
    const element = dialog.current;
    if (element === null || element.open === isShown) return;
    if (isShown) element.showModal();
    else element.close();
  }, [isShown]);
  return (
    <dialog
      ref={dialog}
      data-testid="help-dialog"
      onClose={() => {
        helpShown.value = false;
      }}
    >
      <div>
        <h2>Keys</h2>
        <div class="keys">
          {SHORTCUTS.map(({ key, about }) => (
            <Key key={key} keys={key} about={about} />
          ))}
        </div>
        {[...new Set(VIEW_KEYS.map(({ where }) => where))].map(where => (
          <div key={where}>
            <h3>{where}</h3>
            <div class="keys">
              {VIEW_KEYS.filter(one => one.where === where).map(({ keys, about }) => (
                <Key key={keys} keys={keys} about={about} />
              ))}
            </div>
          </div>
        ))}
        <p class="faint">
          <kbd>Esc</kbd> closes this.
        </p>
      </div>
    </dialog>
  );
}

function Key({ keys, about }: { readonly keys: string; readonly about: string }) {
  return (
    <>
      <span>
        {keys.split(' ').map(key => (
          <span key={key}>
            <kbd>{key}</kbd>{' '}
          </span>
        ))}
      </span>
      <span>{about}</span>
    </>
  );
}
