#include "http/request_parser.h"

#if defined(__GNUC__) && !defined(__clang__)
// Under ASan and UBSan g++ 12 sees boost::optional read uninitialised; it is not.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define BOOST_ASIO_SEPARATE_COMPILATION
#define BOOST_BEAST_SEPARATE_COMPILATION
#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/optional.hpp>

#include "base/errors.h"

namespace sluice {
namespace {

namespace http = boost::beast::http;
using BeastError = boost::beast::error_code;

// Like Beast's string_body, but it does not reserve what a Content-Length merely promises.
struct GrowingBody {
  using value_type = std::string;
  class reader {  // NOLINT(readability-identifier-naming): Beast's name
   public:
    template <bool kIsRequest, class Fields>
    reader(http::header<kIsRequest, Fields>& /*header*/, value_type& body) : body_(body) {}
    void init(const boost::optional<uint64_t>& /*length*/, BeastError& error) { error = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, BeastError& error) {
      error = {};
      size_t total = 0;
      for (auto it = boost::asio::buffer_sequence_begin(buffers);
           it != boost::asio::buffer_sequence_end(buffers); ++it) {
        const boost::asio::const_buffer buffer = *it;
        body_.append(static_cast<const char*>(buffer.data()), buffer.size());
        total += buffer.size();
      }
      return total;
    }
    void finish(BeastError& error) { error = {}; }

   private:
    value_type& body_;
  };
};

absl::Status ToStatus(const BeastError& error, const RequestLimits& limits) {
  if (error == http::error::header_limit) {
    return HttpError(
        431, fmt::format("the request's header is larger than {} bytes", limits.max_header_bytes));
  }
  if (error == http::error::body_limit) {
    return HttpError(
        413, fmt::format("the request's body is larger than {} bytes", limits.max_body_bytes));
  }
  if (error == http::error::bad_version)
    return HttpError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  return HttpError(400, fmt::format("malformed HTTP request: {}", error.message()));
}

boost::beast::string_view Beast(std::string_view s) { return {s.data(), s.size()}; }
std::string_view Std(boost::beast::string_view s) { return {s.data(), s.size()}; }

}  // namespace

struct RequestParser::Impl {
  RequestLimits limits;
  http::request_parser<GrowingBody> parser;
  size_t header_bytes = 0;
};

RequestParser::RequestParser(const RequestLimits& limits) : impl_(std::make_unique<Impl>()) {
  impl_->limits = limits;
  impl_->parser.header_limit(static_cast<uint32_t>(limits.max_header_bytes));
  impl_->parser.body_limit(static_cast<uint64_t>(limits.max_body_bytes));
}
RequestParser::~RequestParser() = default;

absl::Status RequestParser::CheckFraming() {
  const bool coded = CountHeader("transfer-encoding") > 0;
  if (coded && !boost::beast::iequals(Beast(Header("transfer-encoding")), "chunked")) {
    return HttpError(501, "the only transfer coding supported is chunked");
  }
  if (coded && is_http_1_0()) return HttpError(400, "HTTP/1.0 has no transfer codings");
  if (!is_http_1_0() && CountHeader("host") != 1)
    return HttpError(400, "a request needs exactly one Host header");
  return absl::OkStatus();
}

absl::StatusOr<size_t> RequestParser::Parse(std::string_view data) {
  auto& parser = impl_->parser;
  size_t taken = 0;
  while (taken < data.size() && !parser.is_done()) {
    const bool header_was_done = parser.is_header_done();
    BeastError error;
    const size_t n =
        parser.put(boost::asio::buffer(data.data() + taken, data.size() - taken), error);
    taken += n;
    if (error && error != http::error::need_more) return ToStatus(error, impl_->limits);
    if (!header_was_done) impl_->header_bytes += n;
    // Beast counts the first line apart from the fields, and so lets a header pass that is larger
    // by that line if it comes in one piece.
    if (impl_->header_bytes > static_cast<size_t>(impl_->limits.max_header_bytes)) {
      return ToStatus(http::error::header_limit, impl_->limits);
    }
    if (!header_was_done && parser.is_header_done()) {
      absl::Status framing = CheckFraming();
      if (!framing.ok()) return framing;
      return taken;
    }
    if (error == http::error::need_more || n == 0) break;
  }
  return taken;
}

bool RequestParser::header_done() const { return impl_->parser.is_header_done(); }
bool RequestParser::done() const { return impl_->parser.is_done(); }
std::string_view RequestParser::method() const { return Std(impl_->parser.get().method_string()); }
std::string_view RequestParser::target() const { return Std(impl_->parser.get().target()); }
bool RequestParser::is_http_1_0() const { return impl_->parser.get().version() < 11; }
bool RequestParser::keep_alive() const { return impl_->parser.get().keep_alive(); }
std::string_view RequestParser::Header(std::string_view name) const {
  const auto& fields = impl_->parser.get();
  const auto it = fields.find(Beast(name));
  return it == fields.end() ? std::string_view() : Std(it->value());
}
size_t RequestParser::CountHeader(std::string_view name) const {
  return impl_->parser.get().count(Beast(name));
}
bool RequestParser::has_length() const {
  return impl_->parser.chunked() || impl_->parser.content_length().has_value();
}
bool RequestParser::expects_body() const { return !impl_->parser.is_done(); }
std::string& RequestParser::body() { return impl_->parser.get().body(); }

}  // namespace sluice
