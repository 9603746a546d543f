#include "rpc/h2_reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <unordered_set>
#include <utility>

#include "rpc/codec.h"
#include "sluice/v1/reflection.pb.h"

namespace sluice::rpc {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

// The file and all that it imports, each once.
void AddFiles(const FileDescriptor& file, std::unordered_set<std::string>& seen,
              v1::ReflectionResponse::Files& files) {
  if (!seen.insert(file.name()).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  files.add_file_descriptor_proto(proto.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) AddFiles(*file.dependency(i), seen, files);
}

class ReflectionCall final : public Call {
 public:
  ReflectionCall(const std::vector<std::string>* services, CallContext* context)
      : services_(*services), context_(context) {}

  void Start(const grpc::ByteBuffer& request) override { OnRequest(request); }

  void OnRequest(const grpc::ByteBuffer& request) override {
    v1::ReflectionRequest question;
    if (const absl::Status parsed = ParseMessage(request, question); !parsed.ok())
      return Finish(EncodeStatus(parsed));
    const absl::Status encoded = context_->Encode(Answer(services_, std::move(question)));
    if (!encoded.ok()) return Finish(EncodeStatus(encoded));
    writing_ = true;
    context_->StartWrite();
  }

  void OnWriteDone(bool ok) override {
    writing_ = false;
    if (!ok || cancelled_) return Finish(grpc::Status::CANCELLED);
    context_->StartRead();
  }
  void OnRequestsDone() override { Finish(grpc::Status::OK); }
  void OnCancel() override {
    cancelled_ = true;
    if (!writing_) Finish(grpc::Status::CANCELLED);
  }
  void OnDone() override {}

 private:
  void Finish(grpc::Status status) {
    if (!std::exchange(finished_, true)) context_->Finish(std::move(status));
  }

  [[nodiscard]] static v1::ReflectionResponse Answer(const std::vector<std::string>& services,
                                                     v1::ReflectionRequest question) {
    using Query = v1::ReflectionRequest::QueryCase;
    const DescriptorPool& pool = *DescriptorPool::generated_pool();
    v1::ReflectionResponse answer;
    answer.set_valid_host(question.host());
    switch (question.query_case()) {
      case Query::kFileByFilename:
        AddFile(pool.FindFileByName(question.file_by_filename()), answer);
        break;
      case Query::kFileContainingSymbol:
        AddFile(pool.FindFileContainingSymbol(question.file_containing_symbol()), answer);
        break;
      case Query::kFileContainingExtension: {
        const auto& extension = question.file_containing_extension();
        const Descriptor* type = pool.FindMessageTypeByName(extension.containing_type());
        const FieldDescriptor* field =
            type == nullptr ? nullptr
                            : pool.FindExtensionByNumber(type, extension.extension_number());
        AddFile(field == nullptr ? nullptr : field->file(), answer);
        break;
      }
      case Query::kAllExtensionNumbersOfType:
        AddExtensions(question.all_extension_numbers_of_type(), answer);
        break;
      case Query::kListServices:
        for (const std::string& name : services)
          answer.mutable_services()->add_service()->set_name(name);
        break;
      case Query::QUERY_NOT_SET:
        SetError(grpc::StatusCode::INVALID_ARGUMENT, "the question is missing", answer);
        break;
    }
    *answer.mutable_original_request() = std::move(question);
    return answer;
  }

  static void SetError(grpc::StatusCode code, const std::string& message,
                       v1::ReflectionResponse& answer) {
    answer.mutable_error()->set_error_code(code);
    answer.mutable_error()->set_error_message(message);
  }

  static void AddFile(const FileDescriptor* file, v1::ReflectionResponse& answer) {
    if (file == nullptr)
      return SetError(grpc::StatusCode::NOT_FOUND, "there is no such file or symbol", answer);
    std::unordered_set<std::string> seen;
    AddFiles(*file, seen, *answer.mutable_files());
  }

  static void AddExtensions(const std::string& name, v1::ReflectionResponse& answer) {
    const DescriptorPool& pool = *DescriptorPool::generated_pool();
    const Descriptor* type = pool.FindMessageTypeByName(name);
    if (type == nullptr)
      return SetError(grpc::StatusCode::NOT_FOUND, "there is no such type", answer);
    answer.mutable_extension_numbers()->set_base_type_name(name);
    std::vector<const FieldDescriptor*> extensions;
    pool.FindAllExtensions(type, &extensions);
    for (const FieldDescriptor* extension : extensions)
      answer.mutable_extension_numbers()->add_extension_number(extension->number());
  }

  const std::vector<std::string>& services_;
  CallContext* const context_;  // only the transport's thread comes here
  bool writing_ = false, cancelled_ = false, finished_ = false;
};

}  // namespace

std::shared_ptr<Call> NewReflectionCall(const std::vector<std::string>* services,
                                        CallContext* context) {
  return std::make_shared<ReflectionCall>(services, context);
}

}  // namespace sluice::rpc
