// A session of the official `ollama` client (npm) with the server at BASE_URL.
import assert from 'node:assert/strict'
import { Ollama } from 'ollama'

const client = new Ollama({ host: process.env.BASE_URL })
const model = 'storyteller'
const options = { temperature: 0, num_predict: 24 }

const { models } = await client.list()
assert.deepEqual(models.map((one) => one.name), ['storyteller:latest'])
assert.equal((await client.show({ model })).details.family, 'llama')
assert.ok((await client.version()).version)

const whole = await client.generate({ model, prompt: 'Once upon a time', options })
assert.equal(whole.eval_count, 24)
let text = ''
for await (const part of await client.generate({
  model, prompt: 'Once upon a time', options, stream: true,
})) text += part.response
assert.equal(text, whole.response)

const messages = [{ role: 'user', content: 'Tell me a story about a cat.' }]
const answer = await client.chat({ model, messages, options })
text = ''
for await (const part of await client.chat({ model, messages, options, stream: true })) {
  text += part.message.content
}
assert.equal(text, answer.message.content)

// Stopping in the middle.
const long = await client.chat({
  model, messages, stream: true, options: { num_predict: 4000, temperature: 1 },
})
let count = 0
try {
  for await (const part of long) {
    assert.ok(part.message)
    if (++count === 3) long.abort()
  }
  assert.fail('it was not stopped')
} catch (error) {
  assert.equal(error.name, 'AbortError')
}

const { embeddings } = await client.embed({ model, input: ['a cat', 'a dog'] })
assert.equal(embeddings.length, 2)
assert.equal((await client.embeddings({ model, prompt: 'a cat' })).embedding.length,
  embeddings[0].length)
assert.equal((await client.ps()).models[0].name, 'storyteller:latest')

await client.create({ model: 'mario', from: model, system: 'You are Mario.' })
assert.equal((await client.show({ model: 'mario' })).system, 'You are Mario.')
await client.copy({ source: 'mario', destination: 'luigi' })
if (process.env.REGISTRY) {
  const name = `${process.env.REGISTRY}/me/mario:js`
  await client.copy({ source: 'mario', destination: name })
  assert.equal((await client.push({ model: name, insecure: true })).status, 'success')
  await client.delete({ model: name })
  let last
  for await (const part of await client.pull({ model: name, insecure: true, stream: true })) {
    last = part.status
  }
  assert.equal(last, 'success')
  await client.delete({ model: name })
}
await client.delete({ model: 'mario' })
await client.delete({ model: 'luigi' })

await assert.rejects(client.chat({ model: 'missing', messages }), (error) => {
  assert.equal(error.status_code, 404)
  assert.equal(error.message, "model 'missing' not found")
  return true
})
await assert.rejects(client.chat({ model, messages, format: 'xml' }), /invalid format/)
console.log('ollama (npm): ok')
