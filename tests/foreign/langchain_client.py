"""LangChain's OpenAI chat model, whole and streamed."""
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model="smollm2", temperature=0, max_tokens=16)
question = [("system", "Answer in one word."), ("user", "What is the capital of France?")]
answer = model.invoke(question)
assert "Paris" in answer.content, answer
assert answer.usage_metadata["output_tokens"] > 0
assert "".join(chunk.content for chunk in model.stream(question)) == answer.content
assert [one.content for one in model.batch([question, question])] == [answer.content] * 2
print("ok")
