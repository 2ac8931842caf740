"""
Our own rules, as data: they are part of a version of the lists like any other pattern.

Expressions are for ASCII text of at most 512 characters, so none may repeat a repetition.
"""

OWN = {
    "bot": (
        r"\+\s?https?://"  # the field's convention: who gives a page to read about itself is a robot
        r"|DejaClick/"
    ),
    "bot_word": r"bot|crawl|spider|slurp|feed|reader|rss|fetch|validat|monitor|https?://|@",
    "engineless": (
        r"^Mozilla/\d\.\d+ \(compatible; (?!.*(?:AppleWebKit|Gecko|Trident|MSIE|KHTML|Konqueror|Presto|Opera))"
    ),
    "platform": r"^(?:Mozilla/\d|Opera[/ ]\d)[^(]*\((?!compatible;?\s*\))[^)]{2}",
    "app": (
        r"Dalvik/\d[^(]*\([^)]*Android"
        r"|\bCFNetwork/\d.*\bDarwin/\d"
        r"|^\[?FBAN/|\bFBAV/\d|^Instagram \d|^Barcelona \d"
        r"|^com\.(?:zhiliaoapp\.musically|ss\.android\.ugc)|^TikTok |^Snapchat/\d|^Twitter(?:Android|-iPhone|-iPad)?/\d"
    ),
    "phone": (
        r"Profile/MIDP|Configuration/CLDC|UP\.Browser/|SEMC-Browser/|WAP Browser|ObigoInternetBrowser/|\bNetFront/\d"
        r"|^Maui Browser|^BlackBerry ?\d|^Nokia\w|^MQQBrowser/|^OneBrowser/|\bAndroid/\d.*Browser/AppleWebKit"
        r"|^[A-Z][\w-]{2,20}/[^(]{0,40}Mozilla/5\.0 \(Linux; U; Android"
        r"|^(?:DoCoMo|SoftBank|KDDI|Vodafone|J-PHONE|SonyEricsson|SAMSUNG|SEC|MOT|HTC)[-_\w]*[/ ]"
        r"|^(?:Midori|UCWEB|Puffin|Vivaldi)/\d"
    ),
    "in_app": r"FB[A-Z_]{2,6}/[^;\[\]]*;?|(?:Instagram|Barcelona) [\d.]+ (?:Android )?\([^)]*\)",
    "brand": r"(?:CUBOT|FOSSiBOT)(?=[ _;/)])",
}
"""
`bot`: declares a bot. `bot_word`: makes a suspect of crawlerdetect a bot rather than a tool. `engineless`: calls itself
compatible and names no engine. `platform`, `app`, `phone`: what people browse with says one of these. `in_app`,
`brand`: what a Meta app says of itself and its phone, and makers of phones whose names end like a robot's, are cut out
before anything looks for bots: nobody chose them who sends the agent.
"""
