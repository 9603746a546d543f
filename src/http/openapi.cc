#include "http/openapi.h"
namespace sluice {
std::string_view OpenApiDocument() { return "{}"; }
}  // namespace sluice
