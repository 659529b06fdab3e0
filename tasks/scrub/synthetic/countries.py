"""How addresses, telephone numbers and papers look in the countries of our languages.

In the forms, `#` is a digit, `%` a digit that is not 0, `@` a capital letter (`Source.code`);
{last}, {first} and {city} are names.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Country:
    """Forms of one country; the first language's where it has several.

    Attributes:
        code: as GeoNames lists its cities (ISO 3166).
        streets: with the names that are most frequent, and names from people and places.
        house: house numbers, and what may follow them.
        line: street and number in their order.
        rooms: what tells a flat, with the punctuation before it.
        town: postcode and city in their order.
        postcodes, phones, papers: forms; papers are the numbers of ids, taxes, cars, insurance.
        own_names: what the country and its parts are called in its own languages.
    """

    code: str
    streets: tuple[str, ...]
    house: tuple[str, ...]
    line: tuple[str, ...]
    rooms: tuple[str, ...]
    town: tuple[str, ...]
    postcodes: tuple[str, ...]
    phones: tuple[str, ...]
    papers: tuple[str, ...]
    own_names: tuple[str, ...]


GERMAN_STREETS = (
    "Hauptstraße", "Bahnhofstraße", "Lindenweg", "Am Markt", "Schulgasse", "Gartenstraße",
    "Goethestr.", "Im Winkel", "Zum Sportplatz", "An der alten Mühle", "Kirchplatz", "Waldstr.",
    "Birkenallee", "Ringstrasse", "Dorfstr.", "Auf dem Hügel", "Mühlweg", "Unter den Eichen",
    "{last}straße", "{last}str.", "{last}weg", "{last}gasse", "{first}-{last}-Straße",
    "{last}platz", "{city}er Straße", "{first}-{last}-Weg", "{city}er Str.", "{last}allee",
)  # fmt: skip
SWISS_STREETS = tuple(street.replace("ß", "ss") for street in GERMAN_STREETS)
FRENCH_STREETS = (
    "rue de la Paix", "avenue de la République", "place du Marché", "rue des Lilas", "rue Neuve",
    "impasse des Cerisiers", "chemin du Moulin", "allée des Tilleuls", "bd Saint-Michel",
    "cours Gambetta", "rue du Vieux-Port", "route de {city}", "rue {first} {last}",
    "avenue {first}-{last}", "boulevard {last}", "place {last}", "quai {last}", "av. {last}",
    "rue de {city}", "chemin des {last}", "Rue {last}", "ruelle du Puits", "square {last}",
)  # fmt: skip
SPANISH_STREETS = (
    "Calle Mayor", "calle Real", "C/ Sol", "Avenida de la Constitución", "Avda. del Mar",
    "Plaza de España", "Paseo de la Castellana", "Camino Viejo", "Ronda Norte", "Calle {last}",
    "calle {first} {last}", "C/ {last}", "Avda. {last}", "Plaza {last}", "Travesía de {last}",
    "Paseo {first} {last}", "Calle de {city}", "c/ Doctor {last}", "Pasaje {last}",
    "Carretera de {city}", "Cuesta de {last}", "Glorieta {last}",
)  # fmt: skip
LATIN_AMERICAN_STREETS = (
    *SPANISH_STREETS, "Av. Insurgentes Sur", "Av. Libertador", "Blvd. {last}", "Privada {last}",
    "Calzada de {last}", "Av. {first} {last}", "Diagonal 74", "Los Aromos", "Pje. {last}",
)  # fmt: skip
PORTUGUESE_STREETS = (
    "Rua das Flores", "Rua Direita", "Avenida da Liberdade", "Largo do Carmo", "Praça da República",
    "Travessa do Poço", "Rua {first} {last}", "Rua {last}", "Av. {first} {last}", "R. {last}",
    "Alameda dos {last}", "Avenida {last}", "Rua de {city}", "Estrada de {city}", "Praça {last}",
    "Beco do {last}", "Rua Dr. {first} {last}", "Calçada de {last}",
)  # fmt: skip
DUTCH_STREETS = (
    "Kerkstraat", "Dorpsstraat", "Molenweg", "Prinsengracht", "Stationsplein", "Julianalaan",
    "Nieuwe Markt", "Singel", "Beukenhof", "Lange Nieuwstraat", "Havenkade", "{last}straat",
    "{last}laan", "{last}weg", "{first} {last}straat", "{city}seweg", "{last}plein", "{last}dreef",
    "Burgemeester {last}laan", "{last}singel", "{last}kade", "van {last}straat",
)  # fmt: skip

GERMANY = Country(
    "DE", GERMAN_STREETS,
    ("%", "%#", "%#", "%##", "%#a", "% b", "%/%", "%#-%#", "%#A"),
    ("{street} {house}", "{street} {house}", "{street}{house}"),
    (", Whg. %", ", %. OG", ", Hinterhaus", ", App. %#", ", %. Stock links", " c/o {last}"),
    ("{postcode} {city}", "{postcode} {city}", "D-{postcode} {city}", "{city}"),
    ("#####",),
    ("+49 1%# #######", "+49 (0)1## #######", "01## #######", "01##/######", "0%## / %#####",
     "0049 1## ########", "0%##-######", "(0%#) ### ## ##", "+49%##%#######", "0%#### %###",
     "01## ## ## ## ##", "0%##%######", "+49 %## ######-##"),
    ("## ### ### ###", "###########", "@##@##@##", "@@-@@ %###", "@-@@ %##", "@ @@ %###",
     "##/###/#####", "## ###### @ ###", "@#########", "@@######", "DE#########"),
    ("Deutschland", "Germany", "BRD", "Bayern", "NRW", "Ostfriesland", "Allgäu", "Ruhrgebiet"),
)  # fmt: skip
AUSTRIA = Country(
    "AT", GERMAN_STREETS,
    ("%", "%#", "%##", "%#/%", "%#/%/%#", "%#a", "%#/Stiege %/Tür %#"),
    ("{street} {house}",),
    (", Top %#", ", Tür %", ", %. Stock"),
    ("{postcode} {city}", "A-{postcode} {city}", "{city}"),
    ("%###",),
    ("+43 6%# #######", "0664 #######", "0676/### ## ##", "+43 (0)1 ### ## ##", "0%## ######",
     "0043 66# #######", "(01) ### ####", "+436%########"),
    ("#### ######", "##########", "@ #######", "@-%#### @", "W %##### @", "ATU########"),
    ("Österreich", "Steiermark", "Tirol", "Kärnten", "Austria", "Vorarlberg"),
)  # fmt: skip
SWITZERLAND = Country(
    "CH", SWISS_STREETS,
    ("%", "%#", "%##", "%#a", "%#b"),
    ("{street} {house}",),
    (", %. OG", ", Whg. %%", ", Postfach %##"),
    ("{postcode} {city}", "CH-{postcode} {city}", "{city}"),
    ("%###",),
    ("+41 7# ### ## ##", "07# ### ## ##", "0041 79 #######", "0%# ### ## ##", "07########",
     "+41 (0)%# ### ## ##"),
    ("756.####.####.##", "@#######", "ZH %#####", "CHE-###.###.###", "BE ######"),
    ("Schweiz", "die Schweiz", "Suisse", "Graubünden", "Wallis", "Tessin"),
)  # fmt: skip
FRANCE = Country(
    "FR", FRENCH_STREETS,
    ("%", "%#", "%##", "% bis", "%# ter", "%#bis", "%#B"),
    ("{house} {street}", "{house}, {street}", "{house} {street}"),
    (", appt %#", ", bât. A", ", 3e étage", ", résidence {last}", ", porte %"),
    ("{postcode} {city}", "{postcode} {city}", "{city} ({postcode})", "{city}"),
    ("0%###", "%####", "#%###"),
    ("06 ## ## ## ##", "07 ## ## ## ##", "01.##.##.##.##", "+33 6 ## ## ## ##", "06########",
     "0033 %########", "+33 (0)% ## ## ## ##", "0%-##-##-##-##", "+336########", "04 ## ## ## ##"),
    ("# ## ## ## ### ### ##", "###############", "@@-###-@@", "%### @@ ##", "##@@#####",
     "############", "### ### ###", "### ### ### #####", "## ### ### ###"),
    ("France", "la France", "la Bretagne", "la Réunion", "l'Alsace", "Île-de-France", "Paca"),
)  # fmt: skip
QUEBEC = Country(
    "CA", FRENCH_STREETS,
    ("%##", "%###", "%####", "%##-A"),
    ("{house}, {street}", "{house} {street}"),
    (", app. %##", ", bureau %##", " #%#"),
    ("{city} (Québec) {postcode}", "{city}, QC {postcode}", "{city}, QC  {postcode}", "{city}"),
    ("@%@ #@#", "@#@#@#"),
    ("514-###-####", "(438) ###-####", "+1 418 ### ####", "450 ###-####", "819.###.####",
     "1-514-###-####"),
    ("### ### ###", "@@@@ #### ####", "@####-######-##", "@@######", "###-###-###"),
    ("Canada", "le Québec", "Québec", "Nouveau-Brunswick", "Gaspésie"),
)  # fmt: skip
BELGIUM_FRENCH = Country(
    "BE", FRENCH_STREETS,
    ("%", "%#", "%##", "%#a", "%# boîte %"),
    ("{street} {house}", "{street}, {house}", "{street} {house}"),
    (" bte %", ", bte %#", ", 2e étage"),
    ("{postcode} {city}", "B-{postcode} {city}", "{city}"),
    ("%###",),
    ("04## ## ## ##", "+32 4## ## ## ##", "0032 4########", "02 ### ## ##", "04##/##.##.##",
     "+32 (0)2 ### ## ##"),
    ("##.##.##-###.##", "###########", "%-@@@-###", "###-#######-##", "BE 0###.###.###"),
    ("Belgique", "la Belgique", "Wallonie", "Flandre", "le Hainaut"),
)  # fmt: skip
SWITZERLAND_FRENCH = Country(
    "CH", FRENCH_STREETS,
    ("%", "%#", "%##", "%#a", "%#bis"),
    ("{street} {house}", "{street}, {house}"),
    (", 4e étage", ", case postale %##"),
    ("{postcode} {city}", "CH-{postcode} {city}", "{city}"),
    SWITZERLAND.postcodes, SWITZERLAND.phones, SWITZERLAND.papers,
    ("Suisse", "la Suisse", "le Valais", "le canton de Vaud", "Romandie"),
)  # fmt: skip
SPAIN = Country(
    "ES", SPANISH_STREETS,
    ("%", "%#", "%##", "nº %#", "%# bis", "s/n", "núm. %"),
    ("{street} {house}", "{street}, {house}", "{street}, {house}"),
    (", 2º B", ", %º izq.", ", %º A", ", bajo derecha", " %-%", ", esc. %, %º C", ", piso %"),
    ("{postcode} {city}", "{postcode} {city}", "{city} ({postcode})", "{city}",
     "{city}, {postcode}"),
    ("#####", "0%###", "%####"),
    ("6## ### ###", "6## ## ## ##", "+34 6## ### ###", "0034 6########", "9# ### ## ##",
     "6########", "+346########", "9##-######", "7## ###  ###", "+34 9## ## ## ##"),
    ("########@", "########-@", "@#######@", "X-#######-@", "#### @@@", "## ########## ##",
     "@@@######", "@########", "##.###.###-@"),
    ("España", "Cataluña", "Galicia", "Euskadi", "Andalucía", "Canarias", "Spain"),
)  # fmt: skip
MEXICO = Country(
    "MX", LATIN_AMERICAN_STREETS,
    ("%##", "No. %#", "#%##", "%###", "%# int. %", "Mz. % Lt. %#"),
    ("{street} {house}", "{street}, {house}"),
    (", Col. {last}", ", Colonia Centro", ", int. %", ", depto %##"),
    ("C.P. {postcode}, {city}", "{postcode} {city}", "{city}, CP {postcode}", "{city}"),
    ("%####", "0%###"),
    ("55 #### ####", "+52 55 #### ####", "+52 1 33 #### ####", "(81) #### ####", "044 55 #### ####",
     "33########", "+52##########"),
    ("@@@@######", "@@@@######@@@@@@##", "@@@@######@##", "@@@-##-##", "###########", "@########"),
    ("México", "Jalisco", "CDMX", "Yucatán", "Nuevo León", "Oaxaca"),
)  # fmt: skip
ARGENTINA = Country(
    "AR", LATIN_AMERICAN_STREETS,
    ("%##", "%###", "N° %##", "%### PB"),
    ("{street} {house}",),
    (", piso % dpto. A", ", % B", ", depto %"),
    ("{city} ({postcode})", "{postcode} {city}", "{city}", "CP {postcode}"),
    ("%###", "@%###@@@"),
    ("+54 9 11 ####-####", "11 ####-####", "15-####-####", "(0351) ###-####", "011 ####-####",
     "+54911########"),
    ("##.###.###", "########", "20-########-#", "@@ ### @@", "@@@ ###", "##-########-#"),
    ("Argentina", "Córdoba", "Mendoza", "la Patagonia", "CABA", "Uruguay"),
)  # fmt: skip
COLOMBIA = Country(
    "CO", ("Calle %#", "Carrera %#", "Cra. %#", "Cl. %##", "Av. %#", "Transversal %#"),
    ("# %#-%#", "# %#A-%#", "No. %# - %#", "#%#-%#"),
    ("{street} {house}",),
    (", apto %##", ", torre % apto %##", ", barrio {last}", ", interior %"),
    ("{city}", "{city}, {postcode}", "{postcode} {city}"),
    ("######",),
    ("3## ### ####", "+57 3## #######", "300#######", "(601) ### ####", "+57 601 #######"),
    ("%.###.###.###", "##.###.###", "##########", "@@@ ###", "###.###.###-#"),
    ("Colombia", "Antioquia", "Cundinamarca", "el Valle del Cauca", "Ecuador"),
)  # fmt: skip
CHILE = Country(
    "CL", LATIN_AMERICAN_STREETS,
    ("%##", "%###", "N° %##", "#%##"),
    ("{street} {house}",),
    (", depto. %##", ", Dpto. %#", ", casa %", ", villa {last}"),
    ("{city}", "{city}, {postcode}", "{postcode} {city}"),
    ("#######",),
    ("+56 9 #### ####", "9 #### ####", "+569########", "(2) #### ####", "09########"),
    ("%#.###.###-#", "##.###.###-K", "########-#", "@@@@ ##", "@@.@@.##"),
    ("Chile", "Valparaíso", "la Araucanía", "Perú", "Bolivia"),
)  # fmt: skip
ITALY = Country(
    "IT",
    (
        "Via Roma", "via Garibaldi", "Corso Italia", "Piazza del Duomo", "Viale dei Tigli",
        "Vicolo Stretto", "Largo Augusto", "Via Vecchia", "via {first} {last}", "Via {last}",
        "Viale {last}", "Corso {last}", "Piazza {first} {last}", "Strada {last}", "via di {city}",
        "Via dei {last}", "P.zza {last}", "V.le {last}", "Contrada {last}", "Borgo {last}",
        "Lungomare {last}", "Salita {last}", "Calle {last}",
    ),
    ("%", "%#", "%##", "%#/a", "%#/B", "n. %#", "% bis", "snc"),
    ("{street} {house}", "{street}, {house}", "{street}, {house}"),
    (", int. %", ", scala B", ", % piano", ", c/o {last}", ", interno %#"),
    ("{postcode} {city}", "{postcode} {city} (@@)", "{postcode}, {city}", "{city}", "{city} (@@)"),
    ("#####", "00###", "%0###"),
    ("3## #######", "3## ### ####", "+39 3## ### ####", "0039 3#########", "06 ########",
     "02/#######", "+39 02 ### ####", "3##/#######", "3#########", "3## ## ## ###", "0##-######"),
    ("@@@@@@##@##@###@", "@@@ @@@ ##@## @###@", "###########", "@@#####@@", "@@ ### @@",
     "@@#######", "@@ ######", "IT###########"),
    ("Italia", "Lombardia", "Sicilia", "Toscana", "Puglia", "Svizzera italiana", "Alto Adige"),
)  # fmt: skip
BRAZIL = Country(
    "BR", PORTUGUESE_STREETS,
    ("%#", "%##", "%###", "nº %##", "%##-A", "s/n"),
    ("{street}, {house}", "{street}, {house}", "{street} {house}"),
    (", apto %##", ", ap. %#", ", bloco B apto %##", ", casa %", ", sala %##", " - Jardim {last}"),
    ("{city} - @@, {postcode}", "{city}/@@", "{postcode} {city}", "{city} - @@", "CEP {postcode}",
     "{city}"),
    ("#####-###", "########", "##.###-###"),
    ("(11) 9####-####", "(21) 9########", "+55 11 9####-####", "11 9#### ####", "9####-####",
     "(%1) ####-####", "+55 (51) 9####-####", "0800 ### ####", "119########"),
    ("###.###.###-##", "###########", "##.###.###-#", "@@@-####", "@@@#@##", "##.###.###/0001-##",
     "#### #### #### ####", "###.#####.##-#"),
    ("Brasil", "Minas Gerais", "Bahia", "o Nordeste", "Pará", "Rio Grande do Sul"),
)  # fmt: skip
PORTUGAL = Country(
    "PT", PORTUGUESE_STREETS,
    ("%", "%#", "%##", "n.º %#", "nº %", "Lote %", "%#-A"),
    ("{street}, {house}", "{street} {house}", "{street}, {house}"),
    (", 2.º Esq.", ", %º Dto", ", r/c", ", 3º B", ", porta %"),
    ("{postcode} {city}", "{postcode} {city}", "{city}"),
    ("####-###",),
    ("9## ### ###", "+351 9## ### ###", "00351 9########", "21 ### ## ##", "96#######",
     "+351 2## ### ###", "9# ### ## ##"),
    ("### ### ###", "#########", "######## # @@#", "@@-##-@@", "##-@@-##", "########", "@ ######"),
    ("Portugal", "Algarve", "o Alentejo", "Açores", "Madeira", "Minho"),
)  # fmt: skip
NETHERLANDS = Country(
    "NL", DUTCH_STREETS,
    ("%", "%#", "%##", "%-II", "%#a", "%#-%", "%# hs", "%##-3", "%#bis"),
    ("{street} {house}",),
    (", 2 hoog", ", app. %#", "-III", " (achter)", ", t.a.v. {last}"),
    ("{postcode} {city}", "{postcode} {city}", "{postcode}, {city}", "{city}"),
    ("%### @@", "%###@@"),
    ("06-########", "06 ########", "+31 6 ########", "06 #### ####", "06-#### ####", "020-#######",
     "0031 6########", "(0%##) ######", "+31 (0)6 ## ## ## ##", "06########", "0%0 ### ####"),
    ("#########", "####.##.###", "@@-###-@", "##-@@-@@", "@@@######", "@-###-@@", "NL#########B##",
     "########", "### ### ###"),
    ("Nederland", "Friesland", "Brabant", "Zeeland", "de Veluwe", "Limburg", "Holland", "Twente"),
)  # fmt: skip
BELGIUM_DUTCH = Country(
    "BE", DUTCH_STREETS,
    ("%", "%#", "%##", "%#a", "%# bus %", "%/2"),
    ("{street} {house}",),
    (" bus %", ", bus %#", ", 3e verdieping"),
    ("{postcode} {city}", "B-{postcode} {city}", "{city}"),
    ("%###",),
    BELGIUM_FRENCH.phones, BELGIUM_FRENCH.papers,
    ("België", "Vlaanderen", "West-Vlaanderen", "Wallonië", "Belgisch Limburg"),
)  # fmt: skip

COUNTRIES = {
    "de_DE": GERMANY, "de_AT": AUSTRIA, "de_CH": SWITZERLAND, "fr_FR": FRANCE, "fr_CA": QUEBEC,
    "fr_BE": BELGIUM_FRENCH, "fr_CH": SWITZERLAND_FRENCH, "es_ES": SPAIN, "es_MX": MEXICO,
    "es_AR": ARGENTINA, "es_CO": COLOMBIA, "es_CL": CHILE, "it_IT": ITALY, "pt_BR": BRAZIL,
    "pt_PT": PORTUGAL, "nl_NL": NETHERLANDS, "nl_BE": BELGIUM_DUTCH,
}  # fmt: skip
