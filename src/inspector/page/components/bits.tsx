/** A value bit by bit, the highest first, 32 to a row. */

interface Props {
  readonly value: bigint;
  /** Bytes. */
  readonly bytes: number;
}

export function Bits({ value, bytes }: Props) {
  const width = bytes * 8;
  const rows: number[] = [];
  for (let high = width - 1; high >= 0; high -= 32) rows.push(high);
  return (
    <div data-testid="bits">
      {rows.map(high => {
        const bits = Array.from({ length: Math.min(32, width) }, (_, n) => high - n).filter(bit => bit >= 0);
        return (
          <div class="bits" key={high}>
            {bits.map(bit => (
              <div key={`head-${bit}`} class="head">
                {bit}
              </div>
            ))}
            {bits.map(bit => {
              const isSet = ((value >> BigInt(bit)) & 1n) === 1n;
              return (
                <div key={bit} class={isSet ? 'one' : ''}>
                  {isSet ? '1' : '0'}
                </div>
              );
            })}
          </div>
        );
      })}
    </div>
  );
}
