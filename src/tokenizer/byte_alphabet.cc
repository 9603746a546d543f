#include "tokenizer/byte_alphabet.h"

#include "base/utf8.h"

namespace sluice {

ByteAlphabet::ByteAlphabet() {
  bytes_.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    const char32_t c = printable ? static_cast<char32_t>(byte) : next++;
    bytes_[c] = static_cast<int16_t>(byte);
    std::string& character = characters_[static_cast<size_t>(byte)];
    if (c >= 0x80) {  // all are below U+0800: two bytes
      character.push_back(static_cast<char>(0xC0 | c >> 6));
      character.push_back(static_cast<char>(0x80 | (c & 0x3F)));
    } else {
      character.push_back(static_cast<char>(c));
    }
  }
}

std::optional<std::string> ByteAlphabet::ToBytes(std::string_view text) const {
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    if (FirstUtf8Unit(text.substr(i)).kind != Utf8Unit::Kind::kCharacter) return std::nullopt;
    size_t length = 0;
    const char32_t c = DecodeValidUtf8(text.data() + i, length);
    if (c >= kEnd || bytes_[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(bytes_[c]));
    i += length;
  }
  return bytes;
}

}  // namespace sluice
