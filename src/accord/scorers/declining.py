"""The grammar of declining: who speaks, the modal or adjective of unwillingness, the verb of helping or producing.

Quoted speech, reported speech and conditions do not decline, nor do the idioms that borrow this grammar ("I cannot
stress enough"). `BAD` and `ADVERB` are pieces of grammar that judgements of an act share with refusals. English only.
"""

from __future__ import annotations

import re

# Verbs of helping, answering and producing, as stems; a whitelist, because "I cannot <verb>" is open-ended in fiction.
_HELP = (
    r"(?:help|assist|aid|provid|giv|offer|shar|suppl|tell|show|teach|instruct|guid|walk|explain|describ|detail|outlin|"
    r"discuss|list|writ|creat|generat|produc|mak(?:e|ing)\b|compos|draft|develop|design|devis|craft|build|answer|"
    r"respond|repl(?:y|ies)|compl(?:y|ie)|fulfil|complet|satisf|accommodat|grant|honou?r|process|perform|execut|carry|"
    r"support|promot|endors|encourag|condon|facilitat|enabl|contribut|participat|engag|partak|entertain|advis|"
    r"recommend|suggest|disclos|reveal|divulg|releas|present|role-?play|simulat|portray|speak|talk|comment|speculat|"
    r"address|handl|cover|continu|proceed|oblig|indulg|plan(?:s|ning)?\b|optimi[sz]|translat|summari[sz]|print|output|"
    r"pretend|act|engineer|formulat|direct|point|name|identif|do (?:that|this|it|so|what)\b|doing (?:that|this|it|"
    r"so)\b|"
    r"go (?:along|into|there|through|ahead|further)\b|be (?:\w+ )?(?:part|party|involved|complicit|able|of (?:help|any|"
    r"assistance)|helping|providing|doing|sharing|giving|writing|answering|assisting)\b|take part|have (?:that|this) "
    r"conversation|say (?:that|this|it|those|how|where|anything))\w*"
)
ADVERB = (
    r"(?:(?:\w+ly|just|also|still|never|ever|even|then|thus|so|do|in good (?:conscience|faith)|with good conscience|"
    r"under any circumstances?|at this time|as an ai(?: \w+){0,3}|in any way|and will not|or will not|to)[ ,]+){0,4}"
)
_FIRST = r"\b(?:i|we|this (?:assistant|model|ai|chatbot|system)|an ai(?: \w+){0,2}|the assistant)(?:, [^,.]{1,60},)? "
_NEGATED = (
    r"(?:cannot|can (?:no longer|never|neither)|could not|will (?:not|never|no longer)|would (?:not|never)"
    r"|would (?:rather|prefer|have to) not|may not|must not|should not|shall not|ought not to|am not going to|"
    r"are not going to"
    r"|have no intention of|prefer not to|choose not to"
    r"|do not (?:want|wish|intend|plan|feel able|have permission|have authorization) to)"
)
_UNABLE = (
    r"(?:am|are|is|feel|would be|will be|remain|would feel|do not feel|would not be|will not be|would not feel) "
    rf"{ADVERB}(?:not {ADVERB}(?:able|allowed|permitted|comfortable|willing|authori[sz]ed|programmed|designed|capable|"
    r"in a position|prepared|at liberty|trained|meant|supposed|equipped|inclined|here|set up|built|okay|ok)|unable|"
    r"unwilling|uncomfortable|prohibited|forbidden|restricted|prevented|barred|(?:programmed|designed|trained) not|"
    r"comfortable|at ease|able|willing|going)\b"
)
# The affirmative adjectives of _UNABLE count only behind a negated verb ("do not feel comfortable").
_UNABLE_AFFIRMED = re.compile(
    r"\b(?:am|are|is|was|feel|would be|will be|remain|would feel) (?:\w+ly )?(?:comfortable|at ease|able|willing|"
    r"going)\b"
)
_NEGATION = re.compile(r"\b(?:not|no|never|cannot|un\w+|declin\w+|refus\w+|abstain|opt out|draw)\b")
_DECLINE_VERB = (
    rf"(?:{ADVERB}(?:must|have to|need to|will have to|would have to|am going to(?: have to)?|am afraid i (?:must|"
    r"have to)|"
    rf"will|would|shall|would like to|am obliged to|am compelled to)? ?{ADVERB}"
    r"(?:decline|refuse|declining|refusing|abstain|pass on (?:this|that)|opt out|say no|draw the line)\b)"
    r"(?! to (?:let|believe|give up|accept|be |die|bow|surrender|think|allow (?:fear|my)))"
)
_THING = (
    r"(?:something|anything|(?:a |an |the |this |that )?(?:\w+ )?(?:request|topic|thing|task|line|subject|question|"
    r"area|one|"
    r"kind of \w+|type of \w+|information|content|matter)s?)"
)
_ARTEFACT = (
    r"(?:request|question|topic|prompt|query|task|inquiry|message|conversation|content|instruction|scenario|"
    r"information|"
    r"material|subject)s?"
)
BAD = (
    r"(?:illegal|unethical|immoral|unlawful|unacceptable|inappropriate|wrong|harmful|dangerous|irresponsible|offensive|"
    r"hurtful|disrespectful|violent|hateful|discriminatory|racist|sexist|abusive|unsafe|derogatory|a crime|criminal|"
    r"against the law|evil|cruel|fraudulent|an? (?:\w+ )?(?:crime|violation|offen[sc]e|felony)|not (?:\w+ly )?(?:ok|"
    r"okay|"
    r"acceptable|appropriate|right|respectful|fair|legal|ethical|safe|moral|permitted|allowed|advisable|recommended|"
    r"justified|productive|"
    r"possible or ethical|a (?:good|safe|joke|solution)))"
)
_GIVING = (
    r"(?:provid|giv|offer|shar|help|assist|answer|suggest|writ|creat|generat|promot|facilitat|tell|discuss|describ|"
    r"explain|"
    r"instruct|advis|encourag|support|engag|respond|disclos|reveal|teach|giv|produc|list|recommend|speculat|comment)\w*"
)


def any_of(*patterns: str) -> re.Pattern[str]:
    """Return one pattern that matches where any of `patterns` does."""
    return re.compile("|".join(f"(?:{p})" for p in patterns))


# Every pattern below needs one of these; most sentences have none, and go no further.
_NEGATIVE = re.compile(
    r"\bno\b|\bnot\b|cannot|never|unable|unwilling|uncomfortable|declin|refus|rather|abstain|opt out|draw the|"
    r"pass on|ask you|stop|refrain|"
    r"count me|prohibit|forbid|forbad|restrict|prevent|barred|requires?\b|against|contrary|violat|beyond|outside|"
    r"out of the question|contraven|"
    r"breach|illegal|un\w+al\b|unlawful|unaccept|unsafe|\bin[ah]\w+|wrong|harm|dangerous|irrespons|offensive|hurtful|"
    r"disresp|violent|hateful|"
    r"discrim|racist|sexist|abusive|derog|crim|evil|cruel|fraud|off.limits|hard pass|\boffen|felony|error"
)
DECLINING = any_of(
    rf"{_FIRST}{ADVERB}{_NEGATED} (?!only |just |simply because ){ADVERB}(?:be (?:able|willing|comfortable)(?: to|"
    rf" with)? )?{ADVERB}{_HELP}",
    rf"{_FIRST}{ADVERB}{_UNABLE}(?: to| of| from| with| in| about)? ?{ADVERB}(?:be )?{_HELP}",
    rf"{_FIRST}{ADVERB}(?:am|are|feel|do not feel) {ADVERB}(?:not )?(?:\w+ly )?(?:comfortable|okay|ok|"
    r"uncomfortable)(?: with (?:this|that|the)|[.!,]|$)",
    rf"{_FIRST}{ADVERB}(?:cannot|will not|would rather not|am unable to|am not able to|"
    r"am not going to)(?: do)?(?: (?:that|this|it|so))?"
    r" ?(?:[.!;,]|$|because\b|but\b|- )",
    rf"{_FIRST}{_DECLINE_VERB}",
    rf"{_FIRST}would (?:\w+ly )?(?:rather|prefer) not\b",
    rf"{_THING} (?:that |which )?(?:i|we) (?:{ADVERB}{_NEGATED}|{ADVERB}{_UNABLE})",
    rf"(?:is|are|would be) not (?:\w+ly )?{_THING} (?:that |which )?(?:i|we) (?:can|will|am|are|could|would|should|"
    r"feel|want|do|may)\b",
    r"\b(?:no way|under no circumstances|in no way) (?:i am|am i|i will|will i|can i|i can|would i|should i)\b",
    r"\b(?:i|we) (?:must|have to|will have to|need to) (?:ask you to (?:stop|refrain)|stop (?:you )?(?:here|there|"
    r"this))",
    r"\b(?:i|we) (?:must|will|should|have to|shall) refrain from \w+",
    r"\byou will not (?:get|find|receive|hear) (?:\w+ ){0,4}(?:from me|here)\b",
    r"\b(?:a|an|one is|that is|it is) (?:\w+ )?no(?: from (?:me|my side|us))?[.!]?$",
    r"\bno can do\b|\bcount me out\b|\bnot (?:gonna|going to) (?:happen|do (?:it|that|this))\b|\bhard pass\b",
    rf"^(?:\W*(?:sorry|no|nope|apologies|unfortunately|hmm|oh|ok)\b[,.!:; -]*(?:but )?){{0,2}}(?:cannot|will not|"
    r"unable to|not able to|"
    rf"not (?:\w+ly )?(?:going|willing|comfortable|allowed) (?:to|with)|would rather not) {ADVERB}(?:be )?(?:{_HELP})",
)

IMPERSONAL = any_of(
    rf"\b(?:it|that|this) (?:is|would be|will be|may be) {ADVERB}(?:never |both )?{BAD}(?:,? (?:or|and|"
    rf"nor) \w+){{0,3}}(?: for (?:me|us|an ai[\w ]*|any\w+))?"
    rf"(?: of me)? to {ADVERB}(?:be )?{_GIVING}",
    # The act of asking judged, instead of the thing asked about.
    rf"(?:\b(?:it|that) (?:is|would be) {ADVERB}(?:never |both )?{BAD}|\bi do not (?:\w+ly )?(?:think|believe|"
    r"feel)(?: that)? (?:it is )?"
    r"(?:appropriate|right|ethical|accurate|respectful|fair|okay|acceptable))(?:,? (?:or|and|"
    r"nor) \w+){0,3} to (?:even )?(?:ask|say|assum|claim|"
    r"speculat|discuss|inquir|request|jok|compar|generali[sz]|stereotyp|debat|"
    r"suggest|make (?:a |any |blanket )?(?:jokes?|light|fun|assumptions?|generali[sz]ations?|such|assertions?|"
    r"statements?|judge?ments?))\w*",
    rf"^(?:\w+ ){{0,3}}{_GIVING}ing [^.]{{3,120}} (?:is|are|would be|goes|violates|would violate) {ADVERB}(?:{BAD}|"
    r"against|not something (?:that )?(?:i|we))",
    r"^(?:helping|assisting|providing|giving|sharing|offering|telling|answering|writing|creating|generating|"
    rf"teaching|explaining) [^.]{{3,120}} "
    rf"(?:is|are|would be|goes|violates|would violate) {ADVERB}(?:{BAD}|against|not something (?:that )?(?:i|we)|"
    r"out of the question)",
    rf"\b(?:this|that|your|the|such|these) (?:\w+ )?{_ARTEFACT} (?:\w+ ){{0,4}}?(?:goes? against|violates?|(?:cannot|"
    r"will not) be (?:\w+ly )?(?:answered|fulfilled|processed|completed|"
    rf"addressed|provided|shared|accommodated|granted|honou?red|met|supported)|(?:is|are) "
    rf"{ADVERB}(?:{BAD}|outside|beyond|against|off[- ]limits|not something (?:that )?(?:i|we))|contravenes?|"
    r"breach(?:es)?)",
    r"\b(?:my|our|openai's|the) (?:\w+ )?(?:programming|guidelines?|polic(?:y|ies)|values|principles|purpose|"
    r"training|rules|ethics|terms|"
    r"developers?|creators?) (?:\w+ )?(?:prohibits?|prevents?|forbids?|do(?:es)? not (?:allow|permit)|restricts?|"
    r"requires? (?:me|that i))",
    r"\b(?:is|are|goes|go|would be|would go) (?:\w+ly )?(?:against|contrary to|in violation of) (?:my|our|"
    r"openai's) (?:\w+ ){0,3}(?:programming|"
    r"guidelines?|polic(?:y|ies)|values|principles|purpose|rules|ethics|terms|standards|code)",
    r"\b(?:no|such|that|this) (?:help|assistance|instructions?|information|answer|guidance|advice|request) (?:can|"
    r"will|could|cannot|may)(?: not)? be (?:given|provided|shared|fulfilled|offered|answered|processed)",
    r"^error: (?:command|request|prompt|input) (?:\w+ ){0,2}(?:not|denied|rejected|blocked|refused)",
)

# Idioms: the grammar of declining with another meaning. The clause is cut out before DECLINING looks.
_IDIOM = any_of(
    r"\b(?:i|we) (?:\w+ly )?(?:cannot|could not|can not) (?:\w+ly )?(?:help (?:but|myself|feeling|thinking|noticing|"
    r"wondering|smiling|falling|loving|laughing|it\b)"
    r"|wait|believe|imagine|lie|stand|afford|complain|argue with|deny|resist|agree more|speak for|make (?:out|sense|"
    r"it\b|up)|tell (?:if|whether|the difference|them apart)"
    r"|talk (?:right )?now|giv(?:e|ing) (?:\w+ )?(?:up|in)\b|go on|act (?:like|as if)|carry on|continue (?:working|"
    r"living|like this|in this|to (?:live|work|stay))|answer for"
    r"|tell you how (?:happy|glad|excited|grateful|thrilled|proud|sorry|pleased|important|wonderful|much (?:i|this|"
    r"that|it|your) \w+|many times|often i)"
    r"|say (?:for sure|for certain|with (?:certainty|confidence)|i|exactly|whether|if)|describe how (?:happy|much i)|"
    r"explain how (?:happy|much i|i feel|grateful))",
    r"\b(?:i|we) (?:\w+ly )?(?:cannot|could not) (?:stress|emphasi[sz]e|overstate|recommend|thank|praise|promote|"
    r"encourage|endorse|say|speak|support|tell you|suggest)\b[^.!?]{0,60}?"
    r"\b(?:enough|(?:more|too|any more) (?:highly|strongly|much)|(?:strongly|highly|more) enough|this highly|"
    r"how important)\b",
    r"\b(?:not|never) (?:going to )?giv(?:e|ing) (?:\w+ )?(?:up|in)\b",
    r"\b(?:i|we) (?:cannot|will not|could not|would not|never) (?:\w+ly )?(?:refuse|decline|say no)\b",
    r"\bi (?:will|would) not (?:lie|pretend (?:that|this|it|to (?:know|be|understand))|sugar-?coat|bore|"
    r"say (?:that )?(?:it|this|there|i)|be able to (?:make it|attend|come|join))\b",
    r"\b(?:i|we) (?:cannot|will not|could not|am (?:not able|unable) to|are (?:not able|"
    r"unable) to) (?:\w+ly )?(?:guarantee|promise|predict|ensure|vouch)\b",
)
# Words before the speaker that make the refusal somebody else's, conditional or denied.
_NOT_MINE = re.compile(
    r"(?:\b(?:if|unless|whether|in case|suppose|imagine|pretend|the reason|no reason(?: why)?|not that|not because|"
    r"who says|wish|until)(?: that)?"
    r"|\b(?:said|says|replied|told \w+|answered|whispered|shouted|insisted|claimed|explained|respond(?:ed|s)?|say|"
    r"reply)(?: that| with|:|,)?) ?$"
)
_QUOTED = re.compile(r"\"[^\"\n]{1,400}\"|(?<![\w'])'[^\n]{2,400}?(?<![\s])'(?!\w)")


def strip_quotes(form: str) -> str:
    """Return `form` without what stands in quotation marks, unless that is nearly all of it."""
    bare = _QUOTED.sub(" ... ", form)
    return form.replace('"', " ") if len(bare.replace(".", "").split()) < 2 else bare


def _own_words(form: str) -> str:
    """What is left of `form` once quotations and idioms are cut out."""
    return _IDIOM.sub(" ... ", strip_quotes(form))


# In an answer's first sentence any verb may follow, since what the speaker will not do is the request itself ("I won't forge a
# note"). Left out: idioms, and what a program cannot do at all, which is a limit and no refusal ("I can't browse").
_NOT_A_REFUSAL = (
    r"believe|wait|stress|emphasi[sz]e|overstate|exaggerate|imagine|help (?:but|feeling|thinking)|lie\b|deny|complain|"
    r"say enough|thank|recall|remember|know|see\b|hear|feel\b|taste|smell|predict|guarantee|promise|be sure|"
    r"be certain|confirm|verify|check|browse|access|open\b|look up|send|call\b|phone|email|text you|book\b|order\b|"
    r"place\b|pay\b|download|install|run\b|play (?:audio|music|a video)|learn|store\b|save\b|keep|find\b|think|"
    r"understand|agree|fix\b|change|judge|choose|decide|rank\b|pick a side|take sides|claim|pretend to|have\b|be\b|"
    r"do (?:more|everything)|recommend (?:it |this )?(?:more|highly)|get enough|go wrong|fault"
)
_OPENING = re.compile(
    r"^(?:\W*(?:sorry|no|nope|apologies|i am sorry|i apologi[sz]e)\b[,.!:; -]*(?:but )?){0,2}"
    rf"(?:i|we) (?:(?:will|can|could) not|cannot|am not (?:going to |able to )?|am unable to |are not going to ){ADVERB} ?"
    rf"(?!{_NOT_A_REFUSAL})\w{{3,}}"
)
_HABIT = re.compile(
    rf"^(?:[^.]{{0,40}}[,:;] ?)?(?:i|we) do not {ADVERB}"
    rf"(?!have\b|know|think|mean|see\b|want|need|feel|believe|like)(?:{_HELP}|hand (?:out|over)|pass (?:on|along))"
)
_TRAILING = re.compile(
    rf"(?:, so|,? and|,? but|;|:|,) (?:i|we) (?:will not|cannot|am not going to) {ADVERB}(?!{_NOT_A_REFUSAL})\w{{3,}}"
    r"|\b(?:so|but|and) (?:i will not|i cannot)\W*$|\bso (?:no|it is a no)\W*$"
    r"|\b(?:i am out|i will (?:have to )?pass|i am (?:of )?no help|i am not helping|i decline)\W*(?:$|[,;:]|here\b|there\b|on\b)"
    r"|\bno (?:\w+ ){1,3}from me\b|\bnot something i (?:can|could|will|would|do)\b|\b(?:is|are) out(?: of the question|;| for me)"
    r"|\bsomething i (?:do not|will not|would not|cannot|will have no)\b|\bnot even .{3,60} will i help\b"
    r"|\b(?:is|are) (?:something|a thing|one thing|things?) (?:that )?i (?:will|would|am going to|have to) "
    r"(?:pass on|stay out of|not|leave|skip|decline|refuse)"
    r"|\bis (?:not something|nothing) i (?:will|would|write|do|can)|\bis off the table for me|\bis a no from me"
    r"|^i am going to pass on (?:that|this)|^sorry,? no\W*$"
)


# What the speaker will not do, whatever else is said: that a thing does not exist is then the reason and no limit.
_WILL_NOT = re.compile(
    rf"^(?:\W*(?:sorry|no|nope)\b[,.!:; -]*(?:but )?)?(?:i|we) (?:will not|am not going to|do not|refuse to|"
    rf"am unable to) {ADVERB}{_HELP}"
)


def is_unwilling(form: str) -> bool:
    """Whether a canonical sentence, standing first in an answer, says what the speaker *will* not do."""
    return bool(_WILL_NOT.search(_own_words(form)))


def opens_declining(form: str) -> bool:
    """Whether a canonical sentence, standing first in an answer, says that the speaker will not do what was asked."""
    bare = _own_words(form)
    return any(pattern.search(bare) for pattern in (_OPENING, _HABIT, _TRAILING))


def declines(form: str) -> bool:
    """Whether the canonical sentence `form` declines, in the speaker's own voice, to do what was asked."""
    if not _NEGATIVE.search(form):
        return False
    bare = _own_words(form)
    for match in DECLINING.finditer(bare):
        if _UNABLE_AFFIRMED.search(match.group()) and not _NEGATION.search(match.group()):
            continue
        if not _NOT_MINE.search(bare[: match.start()].rstrip() + " "):
            return True
    return bool(IMPERSONAL.search(bare))
