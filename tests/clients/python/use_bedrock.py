"""Amazon's boto3 on Bedrock with a bearer token, as its documentation shows it; the token comes from the environment.
Called by the tests."""

import json

import boto3
from common import main, say

QUESTION = {"modelId": "fake.model", "messages": [{"role": "user", "content": [{"text": "Where are keys kept?"}]}]}


def client():
    return boto3.client("bedrock-runtime", region_name="us-east-1")


def converse():
    say(text=client().converse(**QUESTION)["output"]["message"]["content"][0]["text"])


def converse_stream():
    for event in client().converse_stream(**QUESTION)["stream"]:
        if "contentBlockDelta" in event:
            say(text=event["contentBlockDelta"]["delta"]["text"])


def invoke():
    answer = client().invoke_model(modelId="fake.model", body=json.dumps({"prompt": "Where are keys kept?"}))
    say(text=json.loads(answer["body"].read())["completion"])


main(converse=converse, converse_stream=converse_stream, invoke=invoke)
