/** A question as a command or a program that asks it again. The key itself is never in it. */

const server = () => new URL(".", document.baseURI).href.replace(/\/$/, "");
const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const indented = (value) => JSON.stringify(value, null, 2);

export function curl(body, needsKey) {
  const lines = [
    `curl -N ${shell(`${server()}/v1/chat/completions`)}`,
    `-H 'Content-Type: application/json'`,
    ...(needsKey ? [`-H "Authorization: Bearer $MR_STREAM_API_KEY"`] : []),
    `-d ${shell(indented({ ...body, stream: true }))}`,
  ];
  return `${lines.join(" \\\n  ")}\n`;
}

export function python(body, needsKey) {
  const { mr_stream, ...request } = body;
  const key = needsKey ? `os.environ["MR_STREAM_API_KEY"]` : `"none"`;
  const fields = Object.entries({ ...request, extra_body: { mr_stream } });
  return [
    ...(needsKey ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(`${server()}/v1`)}, api_key=${key})`,
    "answer = client.chat.completions.create(",
    ...fields.map(([name, value]) => `    ${name}=${literal(value)},`),
    ")",
    "print(answer.choices[0].message.content)",
    "",
  ].join("\n");
}

/** Return a value as Python writes it; JSON's strings and numbers are Python's too. */
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value && typeof value === "object") {
    const fields = Object.entries(value).map(
      ([name, each]) => `${literal(name)}: ${literal(each)}`,
    );
    return `{${fields.join(", ")}}`;
  }
  const words = new Map([
    [true, "True"],
    [false, "False"],
    [null, "None"],
  ]);
  return words.get(value) ?? JSON.stringify(value);
}
