"""The codes and words by which :mod:`cxr_dicom.select.evidence` knows a chest and a view.

Words are matched whole, without regard to capitals and accents; a star at the end makes a word
the beginning of a longer one. Chinese, Japanese and Korean words match anywhere.
"""

from __future__ import annotations

# SNOMED CT, and the SNOMED RT codes of older objects (SRT, SNM3): PS3.16 CID 4009.
CHEST_CODES = frozenset(
    {
        "816094009",  # Chest
        "51185008",  # Thoracic structure: Chest before 2023
        "T-D3000",
        "39607008",  # Lung
        "T-28000",
        "416550000",  # Chest and Abdomen: of newborns
        "R-FAB55",
    }
)

# PS3.16 CID 4010. Every other code of that group is not frontal.
VIEW_CODES = {
    "272479007": "PA",
    "R-40888": "PA",
    "R-10214": "PA",  # before 2004
    "399348003": "AP",
    "R-10206": "AP",
    "399033003": "FRONTAL",
    "R-10202": "FRONTAL",
}
OTHER_VIEW_CODES = frozenset(
    {
        *("399067008", "R-102CD", "399173006", "R-10236", "399198007", "R-10232"),  # lateral
        *("399352003", "R-10228", "399260004", "R-10224", "30730003", "G-A145"),
        *("399182000", "R-102C1", "399160007", "R-10204", "399312000", "R-10208"),  # oblique
        *("399059000", "R-10216", "399038007", "R-10210", "399006002", "R-10212"),
        *("399135007", "R-10220", "399356000", "R-40985", "R-10218", "399236003", "R-10234"),
        *("399184004", "R-10238", "399099002", "R-10230", "399368009", "R-10226"),
        *("260427002", "R-40783", "260426006", "R-40782", "399225005", "R-10250"),
        *("399288005", "R-10248", "399004004", "R-10246", "399132005", "R-10252", "399325008", "R-10254"),
        *("399061009", "R-10241", "399110001", "R-102C2"),  # axial, tangential
        *("399162004", "R-10242", "399196006", "R-10244"),  # cranio-caudal, caudo-cranial
    }
)

# View Position (PS3.3 C.8.1.2.1.1, C.8.7.5) and what devices write instead.
FRONTAL_POSITIONS = frozenset({"PA", "AP", "FRONTAL"})
OTHER_POSITIONS = frozenset(
    {
        *("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "XTABLE", "CROSSTABLE"),
        *("LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "OBL", "OBLIQUE"),
        *("LLD", "RLD", "DECUB", "DECUBITUS"),
        *("AXIAL", "TANGENTIAL", "LORDOTIC"),
    }
)

UNKNOWN_BODY_PARTS = frozenset(
    {"UNKNOWN", "OTHER", "NONE", "DEFAULT", "GENERAL", "BODY", "WHOLEBODY", "SPECIAL", "UNDEFINED"}
)

CHEST_WORDS = (
    *("chest", "chestabdomen", "cxr", "thorax", "thorac*", "lung", "lungs"),  # English
    *("lunge", "lungen", "thorakal", "brustkorb", "roethorax"),  # German
    *("poumon*", "pulmonaire", "torax", "pulmon*", "torac*", "polmon*"),  # French, Spanish, Portuguese, Italian
    *("borstkas", "longen", "lungor", "brystkasse", "keuhko*", "klatka", "pluc*", "hrudnik", "mellkas*"),
    *("akciger", "gogus", "грудн*", "легк*", "огк", "θωρακ*"),
    *("胸", "肺", "흉부", "폐"),
)

OTHER_PART_WORDS = (
    *("abdomen", "abdominal", "pelvis", "pelvic", "kub", "spine", "cspine", "tspine", "lspine", "lumbar", "cervical"),
    *("rib", "ribs", "sternum", "clavicle", "scapula", "shoulder", "humerus", "elbow", "forearm", "wrist", "hand"),
    *("finger", "thumb", "hip", "femur", "knee", "patella", "tibia", "leg", "ankle", "foot", "heel", "toe", "arm"),
    *("calcaneus", "extremity", "skull", "head", "sinus", "sinuses", "neck", "facial", "nasal", "mandible"),
    *("orbit", "orbits", "teeth", "dental", "breast", "mammo*", "sacrum", "coccyx", "scolios*"),
    *("bauch", "becken", "wirbel*", "hws", "bws", "lws", "rippe*", "schulter", "ellenbogen", "handgelenk", "hufte"),
    *("knie", "sprunggelenk", "fuss", "schadel", "oberschenkel", "unterschenkel", "oberarm", "unterarm"),
    *("bassin", "rachis", "cotes", "epaule", "coude", "poignet", "main", "hanche", "genou", "cheville", "pied"),
    *("crane", "columna", "costilla*", "hombro", "codo", "muneca", "mano", "cadera", "rodilla", "tobillo", "craneo"),
    *("colonna", "coste", "spalla", "gomito", "polso", "anca", "ginocchio", "caviglia", "piede", "cranio", "bacino"),
    *("腹", "骨盤", "骨盆", "頸椎", "颈椎", "腰椎", "胸椎", "肋骨", "膝", "足", "복부", "척추"),
)

FRONTAL_WORDS = (
    *("pa", "ap", "frontal*", "posteroanterior", "anteroposterior", "face", "frente", "voor-achter"),
    *("прям*", "正位", "正面", "후전"),
)

OTHER_VIEW_WORDS = (
    *("lat", "lateral*", "latero*", "ll", "profil*", "perfil", "seitlich", "seitl", "zijdelings", "sidebilde"),
    *("boczn*", "bocni", "oldal*", "боков*", "obl", "obliqu*", "oblicu*", "schrag*", "decub*", "lordotic"),
    *("側面", "側位", "侧位", "斜位", "측면"),
)
