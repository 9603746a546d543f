// The routes of vectors and scores over a real socket.
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <cmath>
#include <string>

#include "base/errors.h"
#include "tests/http/server_fixture.h"

namespace sluice {
namespace {

class EmbedRoutes : public ServerFixture {
 protected:
  // Every call gets these vectors, the last one first.
  void AnswerWith(std::vector<std::vector<float>> vectors) {
    service.on_generate = [this, vectors = std::move(vectors)](CallId call) {
      service.Accept(call);
      for (size_t i = vectors.size(); i-- > 0;) {
        StreamEvent event;
        event.event = VectorEvent{static_cast<int32_t>(i), vectors[i]};
        service.Emit(call, {event});
      }
      service.EndOk(call, 0);
    };
  }
  RawResponse AskFor(const std::string& route, const std::string& body) {
    return Ask("POST " + route + " HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" +
               "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
};

TEST_F(EmbedRoutes, EmbeddingsComeInTheOrderOfTheInputs) {
  Start();
  AnswerWith({{1, -0.5}, {0.25, 2}});
  const RawResponse response =
      AskFor("/v1/embeddings", R"({"model":"m","input":["a","b"],"dimensions":2,"user":"u"})");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body,
            R"({"object":"list","data":[{"object":"embedding","index":0,"embedding":[1,-0.5]},)"
            R"({"object":"embedding","index":1,"embedding":[0.25,2]}],"model":"fake/model",)"
            R"("usage":{"prompt_tokens":3,"total_tokens":3}})");
  const EmbedRequest request = service.Embedded(1);
  EXPECT_EQ(request.dimensions, 2);
  EXPECT_EQ(request.inputs.size(), 2U);
  EXPECT_EQ(std::get<Text>(request.inputs[1]), Text("b"));
}

TEST_F(EmbedRoutes, Base64HoldsTheFloatsLittleEndian) {
  Start();
  AnswerWith({{1, -2}, {0.5}, {1, 2, 3}});
  const RawResponse response = AskFor(
      "/v1/embeddings", R"({"model":"m","input":[[1,2],[3],[4]],"encoding_format":"base64"})");
  const boost::json::value data = boost::json::parse(response.body).at("data");
  EXPECT_EQ(data.at(0).at("embedding").as_string(), "AACAPwAAAMA=");
  EXPECT_EQ(data.at(1).at("embedding").as_string(), "AAAAPw==");
  EXPECT_EQ(data.at(2).at("embedding").as_string(), "AACAPwAAAEAAAEBA");
  EXPECT_EQ(std::get<std::vector<TokenId>>(service.Embedded(1).inputs[0]),
            (std::vector<TokenId>{1, 2}));
}

TEST_F(EmbedRoutes, OneStringAndOneListOfTokensAreOneInput) {
  Start();
  AnswerWith({{1}});
  EXPECT_EQ(AskFor("/v1/embeddings", R"({"model":"m","input":"a"})").status, 200);
  EXPECT_EQ(AskFor("/v1/embeddings", R"({"model":"m","input":[7,8]})").status, 200);
  EXPECT_EQ(service.Embedded(1).inputs.size(), 1U);
  EXPECT_EQ(std::get<std::vector<TokenId>>(service.Embedded(2).inputs.at(0)).size(), 2U);
}

TEST_F(EmbedRoutes, RerankPutsTheBestFirstAndGivesTheDocumentsBack) {
  Start();
  AnswerWith({{0.25}, {0.75}, {0.25}, {0.5}});
  const RawResponse response =
      AskFor("/v1/rerank",
             R"({"model":"m","query":"q","documents":["a",{"text":"b\""},"c","d"],"top_n":3})");
  const boost::json::value answer = boost::json::parse(response.body);
  const auto& results = answer.at("results").as_array();
  ASSERT_EQ(results.size(), 3U);
  EXPECT_EQ(results[0].at("index"), 1);
  EXPECT_EQ(results[0].at("relevance_score").to_number<double>(), 0.75);
  EXPECT_EQ(results[0].at("document").at("text").as_string(), "b\"");
  EXPECT_EQ(results[1].at("index"), 3);
  EXPECT_EQ(results[2].at("index"), 0);  // of equal ones the first
  EXPECT_EQ(std::get<TextPair>(service.Embedded(1).inputs[2]).first, Text("q"));
  const RawResponse bare =
      AskFor("/rerank",
             R"({"model":"m","query":"q","documents":["a","b","c","d"],"return_documents":false})");
  EXPECT_EQ(bare.body.find("document\""), std::string::npos);
}

TEST_F(EmbedRoutes, ScoreTakesOneAgainstManyAndManyAgainstMany) {
  Start();
  AnswerWith({{0.25}, {0.5}});
  const RawResponse response =
      AskFor("/v1/score", R"({"model":"m","text_1":"a","text_2":["b","c"]})");
  EXPECT_NE(response.body.find(R"("data":[{"index":0,"object":"score","score":0.25},)"
                               R"({"index":1,"object":"score","score":0.5}])"),
            std::string::npos)
      << response.body;
  AskFor("/score", R"({"model":"m","text_1":["a","x"],"text_2":["b","c"]})");
  EXPECT_EQ(std::get<TextPair>(service.Embedded(1).inputs[1]).first, Text("a"));
  EXPECT_EQ(std::get<TextPair>(service.Embedded(2).inputs[1]).first, Text("x"));
}

struct Wrong {
  std::string route, body, param;
};

TEST_F(EmbedRoutes, WrongBodiesAreRefusedByField) {
  Start();
  AnswerWith({{1}});
  const Wrong kWrong[] = {
      {"/v1/embeddings", R"({"input":"a"})", "model"},
      {"/v1/embeddings", R"({"model":"m"})", "input"},
      {"/v1/embeddings", R"({"model":"m","input":[]})", "input"},
      {"/v1/embeddings", R"({"model":"m","input":5})", "input"},
      {"/v1/embeddings", R"({"model":"m","input":[1.5]})", "input"},
      {"/v1/embeddings", R"({"model":"m","input":["a",{}]})", "input"},
      {"/v1/embeddings", R"({"model":"m","input":[[1],[-1]]})", "input"},
      {"/v1/embeddings", R"({"model":"m","input":"a","encoding_format":"hex"})", "encoding_format"},
      {"/v1/embeddings", R"({"model":"m","input":"a","dimensions":"2"})", "dimensions"},
      {"/v1/embeddings", R"({"model":"m","input":"a","truncate_prompt_tokens":"3"})",
       "truncate_prompt_tokens"},
      {"/v1/rerank", R"({"model":"m","documents":["a"]})", "query"},
      {"/v1/rerank", R"({"model":"m","query":"q","documents":[]})", "documents"},
      {"/v1/rerank", R"({"model":"m","query":"q","documents":[3]})", "documents"},
      {"/v1/rerank", R"({"model":"m","query":"q","documents":["a"],"top_n":-1})", "top_n"},
      {"/v1/score", R"({"model":"m","text_1":"a"})", "text_2"},
      {"/v1/score", R"({"model":"m","text_1":["a","b"],"text_2":["c"]})", "text_1"},
      {"/v1/score", R"({"model":"m","text_1":"a","text_2":[1]})", "text_2"},
  };
  for (const Wrong& wrong : kWrong) {
    const RawResponse response = AskFor(wrong.route, wrong.body);
    EXPECT_EQ(response.status, 400) << wrong.body;
    EXPECT_NE(response.body.find("\"param\":\"" + wrong.param + "\""), std::string::npos)
        << wrong.body << "\n"
        << response.body;
  }
}

TEST_F(EmbedRoutes, ARefusalOfTheServiceNamesTheClientsField) {
  Start();
  service.on_generate = [this](CallId call) {
    service.EndWith(call, FieldError("input", "input 3 has 900 tokens; the model allows 512",
                                     "context_length_exceeded"));
  };
  EXPECT_NE(AskFor("/v1/rerank", R"({"model":"m","query":"q","documents":["a"]})")
                .body.find("\"param\":\"documents\""),
            std::string::npos);
  EXPECT_EQ(AskFor("/v1/embeddings", R"({"model":"m","input":"a"})").status, 400);
}

TEST_F(EmbedRoutes, AClientThatLeavesCancelsItsCall) {
  Start();
  {
    RawClient client(server->port());
    const std::string body = R"({"model":"m","input":"a"})";
    client.Send(
        "POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
        "Content-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body);
    ASSERT_TRUE(service.WaitForCalls(1));
  }
  EXPECT_TRUE(service.WaitForCancels(1));
}

}  // namespace
}  // namespace sluice
