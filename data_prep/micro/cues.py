"""The vocabulary of MER-Micro: emotions, their open-vocabulary words, what is said, and what a reason mentions."""

from __future__ import annotations

NEUTRAL = "neutral"
"""State of a cue that carries nothing; never a label."""

EMOTIONS = ("happy", "sad", "angry", "scared", "surprised", "disgusted")
CUE_STATES = (*EMOTIONS, NEUTRAL)
CHANNELS = ("face", "voice", "words")

SYNONYMS: dict[str, tuple[str, ...]] = {
    # Words that the common emotion wheels place under one emotion; words that they split ("excited", "hurt",
    # "disappointed", "shocked") are left out, so that the truth does not depend on the wheel.
    "happy": ("happy", "joyful", "cheerful", "delighted", "playful"),
    "sad": ("sad", "lonely", "depressed", "miserable", "hopeless"),
    "angry": ("angry", "furious", "annoyed", "irritated", "frustrated"),
    "scared": ("scared", "afraid", "anxious", "worried", "nervous"),
    "surprised": ("surprised", "amazed", "astonished", "startled", "stunned"),
    "disgusted": ("disgusted", "revolted", "repulsed", "nauseated", "appalled"),
}
EMOTION_OF = {word: emotion for emotion, words in SYNONYMS.items() for word in words}

OPENERS = ("", "well", "oh", "look", "so")
"""Carry nothing; each sentence may begin with one."""

SENTENCES: dict[str, tuple[str, ...]] = {
    "happy": (
        "we won the game",
        "what a lovely day",
        "I love this song",
        "she said yes to me",
        "the party was fun",
        "I got the job",
        "this is a great gift",
        "we are on holiday",
    ),
    "sad": (
        "I miss my mother",
        "we lost our home",
        "my dog died today",
        "nobody came to see me",
        "I cry every night",
        "she left me alone",
        "it will never be the same",
        "I have no friends",
    ),
    "angry": (
        "you lied to me",
        "stop doing that now",
        "this is so unfair",
        "get out of here",
        "he broke my car again",
        "how dare you say that",
        "I have had enough",
        "give it back to me",
    ),
    "scared": (
        "someone is behind us",
        "please do not hurt me",
        "I hear steps outside",
        "the brakes do not work",
        "do not go in there",
        "it is coming closer",
        "we have to hide",
        "he has a knife",
    ),
    "surprised": (
        "I never expected this",
        "is that really you",
        "how did you do that",
        "you are back already",
        "no way it worked",
        "where did that come from",
        "I can not believe it",
        "that was so sudden",
    ),
    "disgusted": (
        "this food is rotten",
        "that smells so bad",
        "there is mold on it",
        "he spits on the floor",
        "that is so gross",
        "wipe that slime off",
        "I found a worm in it",
        "it tastes like dirt",
    ),
    NEUTRAL: (
        "the meeting is at noon",
        "the bus stops here",
        "it is on the table",
        "we need more paper",
        "the door is open",
        "he lives next door",
        "turn left at the bank",
        "the train has two cars",
    ),
}

FACE_SIGNS = {
    "happy": "a wide smile",
    "sad": "a tear",
    "angry": "low brows",
    "scared": "a shaky mouth",
    "surprised": "an open mouth",
    "disgusted": "a tongue out",
}
VOICE_SIGNS = {
    "happy": "bright and quick",
    "sad": "slow and quiet",
    "angry": "loud and rough",
    "scared": "high and shaky",
    "surprised": "high and rising",
    "disgusted": "low and slow",
}
