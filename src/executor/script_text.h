// What simulated models say: plain prose of our own, in ASCII. Tokenized once by the model's
// tokenizer it is the script; output token i of a choice is script[(seed + choice + i) mod n].
#pragma once

#include <string_view>

namespace sluice {

inline constexpr std::string_view kScriptText =
    R"(The mill stood where the river bent, and the water had turned its wheel for longer than anyone could say. In spring the stream ran brown and fast, and the miller opened the upper gate by a hand's breadth only; in August he opened it wide and still waited for the stones to wake. Sacks came by cart, each with a mark of red or blue thread sewn into the seam, so that no farmer went home with the flour of another. He wrote every mark into a book, with the weight, the hour and the price, and the book never left its shelf beside the door.

A child once asked him why the wheel did not simply turn faster when more carts were waiting. He took her down the steps, showed her the narrow channel, and put a cork into the water. It went round the bend, under the gate and over the wheel, neither sooner nor later than the cork before it. The river gives what it gives, he said. What I can do is keep the stones from standing idle. When one sack is nearly through I have the next one open, and when the long loads come I let a short one pass between them, for its owner has walked and would like to be home by dark.

On market days the line of carts reached past the chapel. Then he hung a board at the crossing that told how many sacks stood in the yard, and he turned new carts away before the hill rather than after it. Some grumbled, yet all of them came back, because a load that he had taken was a load that he would finish. At night he closed the gate, swept the floor, counted the sacks against the book, and found that nothing was missing. Then he put out the lamp, and only the water went on talking in the dark.

)";

}  // namespace sluice
