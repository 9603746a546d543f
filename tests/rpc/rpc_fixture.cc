#include "tests/rpc/rpc_fixture.h"

#include <fmt/format.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <utility>

#include "absl/time/clock.h"
#include "base/logging.h"

namespace sluice::rpc {
namespace {

grpc::ByteBuffer Bytes(std::string_view text) {
  const grpc::Slice slice(text.data(), text.size());
  return {&slice, 1};
}

}  // namespace

RpcTest::RpcTest() {
  EXPECT_TRUE(SetUpLogging("error", "text").ok());
  config_.grpc_port = 0;
  config_.grpc_transport = GetParam();
  std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(name.begin(), name.end(), '/', '_');
  folder_ = fmt::format("{}sluice_rpc_{}_{}", ::testing::TempDir(), getpid(), name);
  std::filesystem::create_directories(folder_);
}

RpcTest::~RpcTest() {
  server_ = nullptr;
  std::filesystem::remove_all(folder_);
}

void RpcTest::StartServer() {
  auto keys = ApiKeys::Load(config_.api_keys_file);
  ASSERT_TRUE(keys.ok()) << keys.status();
  keys_ = *std::move(keys);
  auto server = RpcServer::Start(config_, &service_, keys_.get(), metrics_.get(), &clock_);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  ASSERT_GT(server_->port(), 0);
}

std::shared_ptr<grpc::Channel> RpcTest::Connect(
    std::shared_ptr<grpc::ChannelCredentials> credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (credentials == nullptr) credentials = grpc::InsecureChannelCredentials();
  return grpc::CreateCustomChannel(fmt::format("127.0.0.1:{}", server_->port()), credentials,
                                   arguments);
}

std::unique_ptr<v1::Inference::Stub> RpcTest::Stub() { return v1::Inference::NewStub(Connect()); }

grpc::Status RpcTest::Raw(const std::string& method, std::string_view request,
                          grpc::ClientContext& context) {
  grpc::GenericStub stub(Connect());
  const grpc::ByteBuffer bytes = Bytes(request);
  grpc::ByteBuffer answer;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, grpc::StubOptions(), &bytes, &answer,
                 [&done](grpc::Status status) { done.set_value(std::move(status)); });
  return done.get_future().get();
}

std::string RpcTest::RawStream(const std::string& method, std::string_view request) {
  grpc::GenericStub stub(Connect());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  grpc::CompletionQueue queue;
  const auto stream = stub.PrepareCall(&context, method, &queue);
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  stream->StartCall(nullptr);
  if (!next()) return "";
  stream->Write(Bytes(request), nullptr);
  if (!next()) return "";
  grpc::ByteBuffer answer;
  stream->Read(&answer, nullptr);
  std::string text;
  if (next()) {
    grpc::Slice slice;
    EXPECT_TRUE(answer.DumpToSingleSlice(&slice).ok());
    text.assign(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  stream->WritesDone(nullptr);
  next();
  grpc::Status status;
  stream->Finish(&status, nullptr);
  next();
  return text;
}

void RpcTest::ExpectAllStreamsClosed() {
  EXPECT_TRUE(Eventually([this] { return metrics_->orphans.OpenStreams() == 0; }))
      << metrics_->orphans.OpenStreams() << " streams are open";
}

std::string RpcTest::WriteFile(const std::string& name, const std::string& text) {
  const std::string path = fmt::format("{}/{}", folder_, name);
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

std::string Trailing(const grpc::ClientContext& context, const std::string& key) {
  const auto found = context.GetServerTrailingMetadata().find(key);
  return found == context.GetServerTrailingMetadata().end()
             ? "(absent)"
             : std::string(found->second.data(), found->second.size());
}

v1::GenerateRequest TextRequest(const std::string& text) {
  v1::GenerateRequest request;
  request.set_model("fake-1");
  request.set_text(text);
  return request;
}

}  // namespace sluice::rpc
