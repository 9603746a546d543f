// The bodies of Asio and Beast, compiled once for the folder.
#if defined(__GNUC__) && !defined(__clang__)
// Under ASan and UBSan g++ 12 sees boost::optional read uninitialised; it is not.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#if defined(__SANITIZE_THREAD__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif
#endif
#define BOOST_ASIO_SEPARATE_COMPILATION
#define BOOST_BEAST_SEPARATE_COMPILATION
#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
