"""Words of each language that stand beside personal data and are nobody's."""

NATIONALITIES = (
    "American", "British", "German", "French", "Spanish", "Italian", "Polish", "Swedish", "Danish",
    "Indian", "Chinese", "Japanese", "Korean", "Brazilian", "Mexican", "Turkish", "Greek", "Irish",
    "Dutch", "Nigerian", "Kenyan", "Egyptian", "Iranian", "Russian", "Czech", "Vietnamese",
)  # fmt: skip
PRODUCTS = (
    "laptop", "phone", "charger", "headset", "printer", "coffee machine", "bike", "jacket",
    "router", "tablet", "camera", "vacuum cleaner", "pair of shoes", "washing machine",
    "desk", "monitor",
)  # fmt: skip
ADJECTIVES = ("great", "late", "broken", "blue", "ready", "too slow", "expensive", "nice", "wrong")
WEATHER = ("sunny", "cold", "raining", "snowing", "really hot", "windy", "cloudy", "humid")
MONTHS = {
    "en": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September",
        "October", "November", "December",
    ),
    "de": (
        "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September",
        "Oktober", "November", "Dezember",
    ),
    "fr": (
        "janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre",
        "octobre", "novembre", "décembre",
    ),
    "es": (
        "enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre",
        "octubre", "noviembre", "diciembre",
    ),
    "it": (
        "gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto",
        "settembre", "ottobre", "novembre", "dicembre",
    ),
    "pt": (
        "janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto", "setembro",
        "outubro", "novembro", "dezembro",
    ),
    "nl": (
        "januari", "februari", "maart", "april", "mei", "juni", "juli", "augustus", "september",
        "oktober", "november", "december",
    ),
}  # fmt: skip
WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    "fr": ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
    "it": ("lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"),
    "pt": ("segunda-feira", "terça", "quarta-feira", "quinta", "sexta", "sábado", "domingo"),
    "nl": ("maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag"),
}
DATE_FORMATS = (
    "%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d", "%d.%m.%Y", "%d-%m-%Y", "%B %d, %Y", "%d %B %Y", "%d %b %y",
    "%b %d %Y", "%m/%d/%y", "%d.%m.%y", "%Y/%m/%d", "%d %B", "%B %d", "%Y%m%d",
)  # fmt: skip
# {day} has no leading nought; {month} is the month's name.
LOCAL_DATES = {
    "de": ("{day}. {month} %Y", "{day}. {month}", "%d.%m.%Y", "{day}.{number}.%Y", "%d.%m.%y"),
    "fr": ("{day} {month} %Y", "{day} {month}", "%d/%m/%Y", "%d/%m/%y", "%d-%m-%Y"),
    "es": ("{day} de {month} de %Y", "{day} de {month}", "%d/%m/%Y", "{day}/{number}/%y"),
    "it": ("{day} {month} %Y", "{day} {month}", "%d/%m/%Y", "%d.%m.%Y", "{day}/{number}/%y"),
    "pt": ("{day} de {month} de %Y", "{day} de {month}", "%d/%m/%Y", "%d-%m-%Y", "%d/%m/%y"),
    "nl": ("{day} {month} %Y", "{day} {month}", "%d-%m-%Y", "{day}-{number}-%y", "%d/%m/%Y"),
}
JOBS = {
    "de": (
        "Krankenpfleger", "Lehrerin", "Tischler", "Buchhalterin", "Köchin", "Elektriker", "Ärztin",
        "Busfahrer", "Softwareentwickler", "Rentner", "Studentin", "Verkäufer", "Friseurin",
        "Hausmeister", "Landwirt", "Erzieherin", "Steuerberater", "Azubi", "Bäcker", "Optikerin",
    ),
    "fr": (
        "infirmière", "professeur", "menuisier", "comptable", "cuisinier", "électricien", "médecin",
        "chauffeur de bus", "développeuse", "retraité", "étudiante", "vendeur", "coiffeuse",
        "boulanger", "agriculteur", "plombier", "avocate", "caissière", "facteur", "apprenti",
    ),
    "es": (
        "enfermera", "profesor", "carpintero", "contable", "cocinera", "electricista", "médica",
        "conductor de autobús", "programadora", "jubilado", "estudiante", "dependiente",
        "peluquera", "panadero", "agricultor", "fontanero", "abogada", "cajera", "cartero",
    ),
    "it": (
        "infermiera", "insegnante", "falegname", "ragioniere", "cuoca", "elettricista", "medico",
        "autista", "programmatrice", "pensionato", "studentessa", "commesso", "parrucchiera",
        "panettiere", "contadino", "idraulico", "avvocato", "cassiera", "postino", "barista",
    ),
    "pt": (
        "enfermeira", "professor", "carpinteiro", "contador", "cozinheira", "eletricista", "médica",
        "motorista", "programadora", "aposentado", "estudante", "vendedor", "cabeleireira",
        "padeiro", "agricultor", "encanador", "advogada", "caixa", "carteiro", "estagiária",
    ),
    "nl": (
        "verpleegkundige", "leraar", "timmerman", "boekhouder", "kok", "elektricien", "huisarts",
        "buschauffeur", "programmeur", "gepensioneerd", "studente", "verkoper", "kapster",
        "bakker", "boer", "loodgieter", "advocate", "caissière", "postbode", "stagiair",
    ),
}  # fmt: skip
MONEY = ("{n} €", "{n} euro", "{n},50 €", "€ {n}", "{n},- €", "{n}€")
# The forms of companies: {last} is a family name, {city} a city, {word} and {Word} any word.
COMPANIES = {
    "en": (
        "{last} & Sons", "{last} Bros.", "{last} & {last} LLP", "{last}'s", "{Word}{Word}",
        "{Word}ly", "{word}.io", "{Word} Labs", "The {Word} Company", "{city} {Word} Works",
        "{last} Dental", "{last} High School", "{city} General Hospital", "St. {first}'s Church",
        "{Word} & {Word}", "{last} Plumbing", "{Word} Airlines", "{Word} Health Partners",
        "Bank of {city}", "{city} Police Department", "{last} Elementary", "{Word}Tech",
    ),
    "de": (
        "{last} GmbH", "{last} GmbH & Co. KG", "Bäckerei {last}", "Autohaus {last}", "{last} AG",
        "Stadtwerke {city}", "Universität {city}", "Klinikum {city}", "Sparkasse {city}",
        "Kanzlei {last} & {last}", "Praxis Dr. {last}", "{last} und Söhne", "FC {city}",
        "Gymnasium {city}", "Hotel {last}", "Elektro {last}", "{last} e.K.", "Volksbank {city}",
        "Amtsgericht {city}", "{Word}werk GmbH", "TSV {city}", "Hausverwaltung {last}",
    ),
    "fr": (
        "{last} SARL", "{last} et Fils", "Boulangerie {last}", "Garage {last}", "{last} SA",
        "Mairie de {city}", "Université de {city}", "CHU de {city}", "Lycée {first} {last}",
        "Cabinet {last}", "Pharmacie {last}", "Les Ateliers {last}", "SAS {last}", "{Word}éo",
        "Crédit de {city}", "Collège {last}", "Clinique {last}", "AS {city}", "SCI {last}",
    ),
    "es": (
        "{last} S.L.", "Hermanos {last}", "Panadería {last}", "Talleres {last}", "{last} S.A.",
        "Ayuntamiento de {city}", "Universidad de {city}", "Hospital de {city}", "IES {last}",
        "Grupo {last}", "Construcciones {last}", "Clínica {last}", "{last} y Asociados",
        "Bodegas {last}", "Colegio {first} {last}", "CF {city}", "{last} e Hijos", "Caja {city}",
        "Ferretería {last}", "{last} S.A. de C.V.", "Inmobiliaria {last}",
    ),
    "it": (
        "{last} S.r.l.", "Fratelli {last}", "Panificio {last}", "Officina {last}", "{last} SpA",
        "Comune di {city}", "Università di {city}", "Ospedale di {city}", "Liceo {last}",
        "Studio {last}", "Farmacia {last}", "{last} & Figli", "Cantina {last}", "Banca di {city}",
        "Trattoria da {first}", "{last} snc", "ASD {city}", "Edilizia {last}", "Gruppo {last}",
    ),
    "pt": (
        "{last} Ltda.", "Irmãos {last}", "Padaria {last}", "Oficina {last}", "{last} S.A.",
        "Câmara Municipal de {city}", "Universidade de {city}", "Hospital de {city}", "{last} ME",
        "Grupo {last}", "Farmácia {last}", "Clínica {last}", "{last} & Filhos", "Escola {last}",
        "Construtora {last}", "Colégio {last}", "{city} EC", "Mercado {last}", "{last}, Lda",
        "Prefeitura de {city}", "Imobiliária {last}",
    ),
    "nl": (
        "{last} B.V.", "Bakkerij {last}", "Garage {last}", "Gebroeders {last}", "{last} NV",
        "Gemeente {city}", "Universiteit {city}", "Ziekenhuis {city}", "{last} & Zonen",
        "Tandartspraktijk {last}", "Apotheek {last}", "Stichting {last}", "VV {city}",
        "Makelaardij {last}", "Bouwbedrijf {last}", "Notariskantoor {last}", "{last} Groep",
        "Rabobank {city}", "Fietsenwinkel {last}", "Basisschool {last}", "{last} VOF",
    ),
}  # fmt: skip
