"""What SmolLM2 is asked to continue, to answer and to score; written for these tests."""

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "The three primary colours are",
    "In 1969, the first people to walk on the Moon were",
    "The opposite of hot is",
    "1, 2, 3, 4, 5, 6, 7, 8,",
    "Dear Sir or Madam,\n\nI am writing to",
    "La capitale de l'Italie est",
    "  Two leading spaces, a tab\tand an emoji 🙂 then",
    "#include <stdio.h>\n\nint main(void) {\n",
]

CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [
        {"role": "system", "content": "You answer in one short sentence."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
    [
        {"role": "user", "content": "Name a fruit that is yellow."},
        {"role": "assistant", "content": "A banana."},
        {"role": "user", "content": "And one that is red?"},
    ],
]

TEXTS = [
    "The lighthouse keeper climbed the stairs every evening at dusk. He trimmed the wick, filled the lamp with oil, "
    "and watched the beam sweep across the dark water. Ships far out at sea saw the light and turned away from the "
    "rocks. When the storm came in November, the wind broke two of the windows, but the lamp kept burning through "
    "the night. In the morning the keeper found a small bird asleep on the sill, and he let it stay until spring.",
    "Photosynthesis is the process by which green plants turn light into chemical energy. Chlorophyll in the leaves "
    "absorbs sunlight, water rises from the roots, and carbon dioxide enters through small openings called stomata. "
    "The plant makes sugar from these and gives off oxygen.",
    "def merge(left, right):\n    result = []\n    i = j = 0\n    while i < len(left) and j < len(right):\n"
    "        if left[i] <= right[j]:\n            result.append(left[i])\n            i += 1\n        else:\n"
    "            result.append(right[j])\n            j += 1\n    return result + left[i:] + right[j:]\n",
    "Invoice 20417 of 3 March 2019: 12 chairs at 84.50 each make 1014.00; 3 tables at 230.00 make 690.00; "
    "delivery 45.99. Total 1749.99, to be paid within 30 days.",
    "L'été dernier, nous sommes allés à Genève. — “Quel temps!” said Zoë; 東京は雨でした。 Привет, мир! 🙂👩‍🚀 naïve "
    "façade, ½ + ¼ = ¾, x² ≤ y₀, ½‰.",
]
