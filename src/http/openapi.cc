#include "http/openapi.h"

namespace sluice {

std::string_view OpenApiDocument() {
  static constexpr std::string_view kDocument = R"json({
"openapi":"3.1.0",
"info":{"title":"Sluice","version":"1","description":"OpenAI's API names and error objects, served by Sluice."},
"components":{
 "securitySchemes":{"key":{"type":"http","scheme":"bearer"}},
 "schemas":{
  "Error":{"type":"object","properties":{"error":{"type":"object","properties":{"message":{"type":"string"},"type":{"type":"string"},"param":{"type":["string","null"]},"code":{"type":["string","null"]}}}}},
  "Sampling":{"type":"object","required":["model"],"properties":{
   "model":{"type":"string"},"max_tokens":{"type":"integer","minimum":1},"temperature":{"type":"number","minimum":0},
   "top_p":{"type":"number"},"top_k":{"type":"integer"},"min_p":{"type":"number"},"n":{"type":"integer","minimum":1,"maximum":128},
   "stream":{"type":"boolean"},"stream_options":{"type":"object","properties":{"include_usage":{"type":"boolean"},"continuous_usage_stats":{"type":"boolean"}}},
   "stop":{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"},"maxItems":16}]},
   "stop_token_ids":{"type":"array","items":{"type":"integer"}},"presence_penalty":{"type":"number"},"frequency_penalty":{"type":"number"},
   "repetition_penalty":{"type":"number"},"logit_bias":{"type":"object","additionalProperties":{"type":"number"}},
   "min_tokens":{"type":"integer"},"ignore_eos":{"type":"boolean"},"seed":{"type":"integer"},"priority":{"type":"integer"},
   "skip_special_tokens":{"type":"boolean"},"include_stop_str_in_output":{"type":"boolean"},"return_token_ids":{"type":"boolean"},
   "stream_interval":{"type":"integer","minimum":1,"maximum":1024},
   "request_id":{"type":"string"},"user":{"type":"string"}}},
  "Message":{"type":"object","required":["role","content"],"properties":{"role":{"enum":["system","developer","user","assistant"]},
   "content":{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"object","properties":{"type":{"const":"text"},"text":{"type":"string"}}}}]}}},
  "Chat":{"allOf":[{"$ref":"#/components/schemas/Sampling"},{"type":"object","required":["messages"],"properties":{
   "messages":{"type":"array","minItems":1,"items":{"$ref":"#/components/schemas/Message"}},
   "max_completion_tokens":{"type":"integer","minimum":1},"logprobs":{"type":"boolean"},"top_logprobs":{"type":"integer","minimum":0,"maximum":20},
   "add_generation_prompt":{"type":"boolean"}}}]},
  "Completion":{"allOf":[{"$ref":"#/components/schemas/Sampling"},{"type":"object","required":["prompt"],"properties":{
   "prompt":{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"integer"}}]},
   "logprobs":{"type":"integer","minimum":0,"maximum":20},"parse_special":{"type":"boolean"}}}]},
  "Embeddings":{"type":"object","required":["model","input"],"properties":{"model":{"type":"string"},
   "input":{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"}},{"type":"array","items":{"type":"integer"}},{"type":"array","items":{"type":"array","items":{"type":"integer"}}}]},
   "encoding_format":{"enum":["float","base64"]},"dimensions":{"type":"integer","minimum":1},"normalize":{"type":"boolean"},"priority":{"type":"integer"},"request_id":{"type":"string"},"user":{"type":"string"}}},
  "Rerank":{"type":"object","required":["model","query","documents"],"properties":{"model":{"type":"string"},"query":{"type":"string"},
   "documents":{"type":"array","minItems":1,"maxItems":2048,"items":{"oneOf":[{"type":"string"},{"type":"object","properties":{"text":{"type":"string"}}}]}},
   "top_n":{"type":"integer","minimum":0},"return_documents":{"type":"boolean"},"priority":{"type":"integer"},"request_id":{"type":"string"}}},
  "Score":{"type":"object","required":["model","text_1","text_2"],"properties":{"model":{"type":"string"},
   "text_1":{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"}}]},"text_2":{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"string"}}]},
   "priority":{"type":"integer"},"request_id":{"type":"string"}}},
  "Tokenize":{"type":"object","properties":{"model":{"type":"string"},"prompt":{"type":"string"},
   "messages":{"type":"array","items":{"$ref":"#/components/schemas/Message"}},"add_special_tokens":{"type":"boolean"},
   "parse_special":{"type":"boolean"},"add_generation_prompt":{"type":"boolean"},"return_token_strs":{"type":"boolean"}}},
  "Detokenize":{"type":"object","required":["tokens"],"properties":{"model":{"type":"string"},"tokens":{"type":"array","items":{"type":"integer"}}}}},
 "responses":{"Error":{"description":"The error table's answer","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Error"}}}}}},
"security":[{},{"key":[]}],
"paths":{
 "/v1/chat/completions":{"post":{"summary":"Answer a chat; with stream, as server-sent events that end with [DONE]","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Chat"}}}},"responses":{"200":{"description":"chat.completion, or chat.completion.chunk events"},"default":{"$ref":"#/components/responses/Error"}}}},
 "/v1/completions":{"post":{"summary":"Continue a text","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Completion"}}}},"responses":{"200":{"description":"text_completion"},"default":{"$ref":"#/components/responses/Error"}}}},
 "/v1/embeddings":{"post":{"summary":"A vector for each text, of a model that makes embeddings","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Embeddings"}}}},"responses":{"200":{"description":"list of embeddings"},"default":{"$ref":"#/components/responses/Error"}}}},
 "/v1/rerank":{"post":{"summary":"Documents by how well they answer a query, best first","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Rerank"}}}},"responses":{"200":{"description":"results with index, relevance_score, document"},"default":{"$ref":"#/components/responses/Error"}}}},
 "/v1/score":{"post":{"summary":"How well pairs of texts fit","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Score"}}}},"responses":{"200":{"description":"list of scores"},"default":{"$ref":"#/components/responses/Error"}}}},
 "/tokenize":{"post":{"summary":"Token ids of a text or a chat","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Tokenize"}}}},"responses":{"200":{"description":"count, max_model_len, tokens, token_strs"},"default":{"$ref":"#/components/responses/Error"}}}},
 "/detokenize":{"post":{"summary":"Text of token ids","requestBody":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Detokenize"}}}},"responses":{"200":{"description":"prompt"},"default":{"$ref":"#/components/responses/Error"}}}},
 "/v1/models":{"get":{"summary":"The models served","responses":{"200":{"description":"list"}}}},
 "/v1/models/{id}":{"get":{"summary":"One model, by name or alias; the name may hold slashes","parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"string"}}],"responses":{"200":{"description":"model"},"default":{"$ref":"#/components/responses/Error"}}}},
 "/version":{"get":{"summary":"Version, backend and system fingerprint","security":[],"responses":{"200":{"description":"version"}}}},
 "/health":{"get":{"summary":"200 when new work is taken and advances","security":[],"responses":{"200":{"description":"healthy"},"503":{"description":"the reason stands in the body"}}}},
 "/livez":{"get":{"summary":"503 when the process must be restarted","security":[],"responses":{"200":{"description":"live"},"503":{"description":"not live"}}}},
 "/readyz":{"get":{"summary":"200 when new work is taken","security":[],"responses":{"200":{"description":"ready"},"503":{"description":"not ready"}}}},
 "/metrics":{"get":{"summary":"Prometheus text format 0.0.4","security":[],"responses":{"200":{"description":"metrics"}}}}}
})json";
  return kDocument;
}

}  // namespace sluice
