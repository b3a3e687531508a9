interface Props {
  readonly automatic: boolean;
  readonly onChange: (automatic: boolean) => void;
}

/** Whether a view asks by itself, again and again. */
export function AgainEverySecond({ automatic, onChange }: Props) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={automatic}
        data-testid="automatic"
        onChange={event => onChange(event.currentTarget.checked)}
      />
      again every second
    </label>
  );
}
