"""The codes and words by which :mod:`cxr_dicom.select.evidence` knows a chest and a view.

Words are matched whole, without regard to capitals, accents, dots and hyphens; a star at the end
makes a word the beginning of a longer one. Words of scripts that join them, such as Chinese,
Japanese, Korean, Thai and Arabic, match anywhere. A word that is in no list says nothing.

Sources, besides textbooks of radiographic positioning:

- codes: PS3.16 CID 4009 and 4010 with the SNOMED RT codes that they had before (SRT, SNM3);
- code strings: PS3.3 C.8.1.2.1.1 and C.8.7.5.1.1 (View Position), PS3.16 Annex L (Body Part Examined);
- View Position as published: MIMIC-CXR 2.0.0 (metadata.csv: AP, PA, LATERAL, LL, LAO, RAO, LPO, AP AXIAL,
  XTABLE LATERAL, SWIMMERS, PA LLD, PA RLD, AP LLD, AP RLD), PadChest (ViewPosition_DICOM: POSTEROANTERIOR,
  ANTEROPOSTERIOR, LATERAL, LLATERAL and the codes), VinDr-CXR (PA only), NIH ChestX-ray14 and RSNA (PA, AP);
- Fujifilm's devices write the view into Acquisition Device Processing Description instead;
- study and series descriptions of 16,246 series of CR and DX in the Imaging Data Commons, version 25 (the index is in
  the wheel idc-index-data 25.0.5; Siemens 101, Philips 302, Agfa 547, the rest Carestream, GE, Fujifilm and others).
  Siemens begins its programs with where they are taken (T table, W wall stand, X free cassette: "W Chest Lat",
  "X Forearm a.p. Left"), Philips with the view ("AP Landscape"; "Lat Thoracic" is the spine), Agfa with the part
  ("Ribs OBLI Lower");
- series descriptions of BIMCV-COVID19+ and -, with what its readers took each for ("W034 Tórax lat.", "DEC. SUPINO AP",
  which is frontal, "PARRILLA COSTAL AP", "ESCAPULA Y").
"""

from __future__ import annotations

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
        *("399352003", "R-10228", "399260004", "R-10224", "30730003", "G-A145", "R-10222"),
        *("399182000", "R-102C1", "399160007", "R-10204", "399312000", "R-10208"),  # oblique
        *("399059000", "R-10216", "399038007", "R-10210", "399006002", "R-10212"),
        *("399135007", "R-10220", "399356000", "R-40985", "R-10218", "399236003", "R-10234"),
        *("399184004", "R-10238", "399099002", "R-10230", "399368009", "R-10226"),
        *("260427002", "R-40783", "260426006", "R-40782", "399225005", "R-10250"),
        *("399288005", "R-10248", "399004004", "R-10246", "399132005", "R-10252", "399325008", "R-10254"),
        *("399061009", "R-10241", "399110001", "R-102C2"),  # axial, tangential
        *("399162004", "R-10242", "399196006", "R-10244"),  # cranio-caudal, caudo-cranial
        *("399242004", "R-102C6", "399351005", "R-102C7", "399272005", "R-102C5"),  # of the skull
        *("399316002", "R-102C8", "399255003", "R-10256", "399360002", "R-10257", "260499007", "R-40810"),
        *("399071006", "R-102C3", "399335002", "R-102C4"),  # of the foot
        *("119376003", "G-8300"),  # of a specimen
    }
)

# View Position: what says PA, what AP, what only frontal; all else that is known is another view.
PA_POSITIONS = ("pa", "posteroanterior*", "dorsoventral*", "后前*", "後前*", "후전*")
AP_POSITIONS = ("ap", "anteroposterior*", "ventrodorsal*", "前后*", "前後*", "전후*")
_FRONTAL = ("frontal*", "frente", "прям*", "正位", "正面", "正侧", "正側", "정면")
FRONTAL_POSITIONS = (*PA_POSITIONS, *AP_POSITIONS, *_FRONTAL)
# On the back or on the belly: in Romance languages a frontal view; "dorsal decubitus", in English, is a lateral one.
LYING = ("decub* supin*", "supin* decub*", "decub* dorsal*", "decub* pron*", "decub* ventral*")
FRONTAL_WORDS = (*FRONTAL_POSITIONS, "face", "voor-achter", "voorachterwaarts", "forfra", "bagfra")

OTHER_VIEW_WORDS = (
    *("lat", "lateral*", "latero*", "llateral*", "rlateral*", "llat", "rlat", "ll", "sagittal", "swimmer*"),
    *("profil*", "perfil*", "seitlich", "seitl", "zijdelings", "dwars*", "sidebilde", "sidobild", "sivukuva"),
    *("boczn*", "bok", "bocn*", "oldal*", "бок", "боков*", "yan", "nghieng", "xtable", "crosstable"),
    *("lao", "rao", "lpo", "rpo", "lld", "rld"),
    *("obl", "obli", "obliqu*", "oblicu*", "schrag*", "decub*", "lordot*", "axial", "tangential"),
    *("側面", "側位", "侧位", "侧面", "斜位", "측면", "側像"),
)
OTHER_POSITIONS = (*OTHER_VIEW_WORDS, "rl", "l lat", "r lat", "llo", "rlo")

UNKNOWN_BODY_PARTS = frozenset({"unknown", "other", "none", "default", "general", "body", "wholebody", "special"})

CHEST_WORDS = (
    *("chest", "chestabdomen", "chst", "cxr", "thorax", "thorac*", "lung", "lungs"),  # English
    *("lunge", "lungen", "thorakal", "brustkorb", "roethorax"),  # German
    *("poumon*", "pulmonaire", "poitrine", "torax", "pulmon*", "pulmao", "pulmoes", "pecho", "torac*", "polmon*"),
    *("borstkas", "longen", "lungor", "brystkasse", "keuhko*", "klatka", "piersiow*", "pluc*", "hrudni*", "mellkas*"),
    *("akciger", "gogus", "toraks", "nguc", "phoi", "грудн*", "легк*", "огк", "θωρακ*"),
    *("胸", "肺", "흉부", "폐", "ทรวงอก", "ปอด", "الصدر", "صدر", "חזה"),
)
CHEST_STEMS = ("chest", "thorax", "torax", "toraks")  # in code strings, which have no room for blanks: CHESTPA

# Parts whose names hold that of the chest.
NEAR_THE_CHEST = (
    *("thoracic spine", "thoracic vertebra*", "thoracic column", "thoracolumbar*", "spine thoracic", "thoracic cage"),
    *("thoracic outlet", "thoracic inlet", "bony thorax", "knocherner thorax", "thorax skelett", "chest wall"),
    *("columna toracica", "columna dorsal", "coluna toracica", "colonna toracica", "colonna dorsale"),
    *("rachis thoracique", "rachis dorsal", "thoracale wervel*", "thorakale wirbel*", "kregoslup piersiow*"),
    *("hrudni pater*", "грудн* отдел*", "грудн* позвон*", "胸椎", "胸骨", "胸腰", "흉추"),
)

_UNCLEAR = ("ap thoracic", "lat thoracic", "lateral thoracic", "thoracic lat", "thoracic lateral")  # chest or spine
NO_CHEST = (*NEAR_THE_CHEST, *_UNCLEAR)  # does not name a chest, although the word is in it

# Body Part Examined by PS3.16 Annex L that is neither the chest nor so near that it says nothing.
OTHER_BODY_PARTS = frozenset(
    {
        *("abdomen", "abdomenpelvis", "adrenal", "ankle", "axilla", "bladder", "brain", "breast", "buttock"),
        *("calcaneus", "calf", "carotid", "cerebellum", "cspine", "ctspine", "cervix", "cheek", "clavicle", "coccyx"),
        *("colon", "duodenum", "ear", "elbow", "extremity", "eye", "eyelid", "face", "femur", "finger", "foot"),
        *("gallbladder", "hand", "head", "headneck", "hip", "humerus", "ileum", "ilium", "iac", "jaw", "jejunum"),
        *("kidney", "knee", "larynx", "liver", "leg", "lspine", "lsspine", "maxilla", "mouth", "neck", "nose"),
        *("orbit", "pancreas", "parotid", "patella", "pelvis", "pharynx", "prostate", "rectum", "rib", "sspine"),
        *("scalp", "scapula", "shoulder", "skull", "spine", "spleen", "sternum", "stomach", "submandibular", "tmj"),
        *("thigh", "thumb", "thyroid", "tlspine", "toe", "tongue", "tspine", "arm", "uterus", "wrist", "zygoma"),
    }
)

_ABDOMEN_WORDS = ("abdomen", "abdominal", "abdome", "abd", "kub", "bauch", "腹", "복부")  # beside a chest: of a newborn
_BONE_WORDS = (
    *("pelvis", "pelvic", "spine", "cspine", "tspine", "lspine", "lumbar", "cervical"),
    *("rib", "ribs", "sternum", "clavicle", "scapula", "shoulder", "humerus", "elbow", "forearm", "wrist", "hand"),
    *("finger", "thumb", "hip", "femur", "knee", "patella", "tibia", "leg", "ankle", "foot", "heel", "toe", "arm"),
    *("calcaneus", "extremity", "skull", "head", "sinus", "sinuses", "neck", "facial", "nasal", "mandible"),
    *("hands", "fingers", "hips", "femurs", "knees", "legs", "ankles", "feet", "toes", "shoulders", "elbows", "wrists"),
    *("clavicles", "tib", "fib", "tibfib", "fibula", "parrilla costal*", "escapula", "omoplat*"),
    *("orbit", "orbits", "teeth", "dental", "breast", "mammo*", "sacrum", "coccyx", "scolios*"),
    *("becken", "wirbel*", "hws", "bws", "lws", "rippe*", "schulter", "ellenbogen", "handgelenk", "hufte"),
    *("knie", "sprunggelenk", "fuss", "schadel", "oberschenkel", "unterschenkel", "oberarm", "unterarm"),
    *("bassin", "rachis", "cotes", "epaule", "coude", "poignet", "main", "hanche", "genou", "cheville", "pied"),
    *("crane", "columna", "costilla*", "hombro", "codo", "muneca", "mano", "cadera", "rodilla", "tobillo", "craneo"),
    *("colonna", "coste", "spalla", "gomito", "polso", "anca", "ginocchio", "caviglia", "piede", "cranio", "bacino"),
    *("joelho", "ombro", "cotovelo", "punho", "tornozelo", "coluna", "quadril", "pelve", "kregoslup", "kolano"),
    *("骨盤", "骨盆", "頸椎", "颈椎", "腰椎", "肋骨", "膝", "足", "척추"),
)
OTHER_PART_WORDS = (*NEAR_THE_CHEST, *_BONE_WORDS, *_ABDOMEN_WORDS)
BONE_WORDS = (*NEAR_THE_CHEST, *_BONE_WORDS)
