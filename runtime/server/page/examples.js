// Programs to begin with.

export const EXAMPLES = {
  "Tips, side by side": {
    source: `# Writes several tips side by side, then sums them up.
program tips(topic: str, n: int = 3):
    system "You are a concise expert."
    user "Give me {n} tips about {topic}."
    assistant:
        fork i in range(n) as tips:
            "Tip {i + 1}:"
            gen tip(max_tokens=32, stop="\\n")
        "Here are the tips.\\n{join(tips.tip, '\\n')}\\nIn summary,"
        gen summary(max_tokens=48)
    return summary
`,
    arguments: { topic: "brewing tea" },
  },
  "Judges, each for one thing": {
    source: `program judges(essay: str, aspects: list):
    "Essay: {essay}\\n"
    fork aspect in aspects as judges:
        "\\nAs for {aspect}, the essay is"
        select verdict from [" poor", " fair", " good"]
        ", because"
        gen reason(max_tokens=16, stop=[".", "\\n"])
    return judges.verdict
`,
    arguments: { essay: "Rivers are long. They are wet.", aspects: ["style", "facts", "wit"] },
  },
  "A plain text": {
    source: `program story(start: str):
    "{start}"
    gen rest(max_tokens=64)
    return rest
`,
    arguments: { start: "Once upon a time, in a village by the sea," },
  },
};
