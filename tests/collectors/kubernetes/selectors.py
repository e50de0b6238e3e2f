"""Selectors, and the labels that they fit."""

LABELS = {
    "web": {"app": "web", "tier": "front", "example.org/size": "10"},
    "db": {"app": "db", "example.org/size": "9"},
    "empty": {"app": ""},
    "bare": {},
}
SELECTORS = {
    "app=web": {"web"},
    "app == web": {"web"},
    "app!=web": {"db", "empty", "bare"},
    "app=": {"empty"},
    "app": {"web", "db", "empty"},
    "!app": {"bare"},
    "app in (web, db)": {"web", "db"},
    "app in ()": {"empty"},
    "app notin (web,db)": {"empty", "bare"},
    "app in (web,db),tier=front": {"web"},
    "tier,app notin (db)": {"web"},
    " app = db , !tier": {"db"},
    "example.org/size>9": {"web"},
    "example.org/size < 10": {"db"},
    "app>1": set(),
}
