"""Streams one chat answer over gRPC: python grpc_stream.py HOST:PORT "question"."""

import pathlib
import sys

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto"))
pb, pb_grpc = grpc.protos_and_services("sluice/v1/inference.proto")  # needs grpcio-tools


def main() -> int:
    target, question = sys.argv[1:3]
    with grpc.insecure_channel(target) as channel:
        request = pb.GenerateRequest(
            model="default", chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content=question)])
        )
        for event in pb_grpc.InferenceStub(channel).GenerateStream(request):
            if event.HasField("delta"):
                print(event.delta.content, end="", flush=True)
            elif event.HasField("end"):
                usage = event.end.usage
                print(f"\n[{usage.prompt_tokens} prompt tokens, {usage.output_tokens} output tokens]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
