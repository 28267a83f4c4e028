from extractions import reasons, turns, words
from scripted_server import Answer


def test_a_server_without_structured_output_gets_the_text_format(serve, extract):
    def no_schema(body, number):
        if "response_format" in body:
            return Answer(status=400, body=b'{"error": {"message": "response_format json_schema is not supported"}}')
        return Answer("number0 ::: none")

    server = serve(no_schema)
    found, _ = extract(server, turns(1))
    assert words(found[0]) == ["number0"]
    assert reasons(found[0]) == ["a refusal"]
    assert ":::" in server.bodies[-1]["messages"][0]["content"]


def test_a_server_that_does_not_know_our_options_gets_those_it_knows(serve, extract):
    def picky(body, number):
        for name in ("temperature", "max_completion_tokens"):
            if name in body:
                return Answer(status=400, body=f'{{"error": {{"message": "Unsupported parameter: {name}"}}}}'.encode())
        return Answer('{"expressions": ["number0"]}')

    server = serve(picky)
    found, _ = extract(server, turns(1))
    assert words(found[0]) == ["number0"]
    assert server.bodies[-1]["max_tokens"] == 512
