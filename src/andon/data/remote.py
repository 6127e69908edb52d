"""Public inspection data sets: who publishes them, under which licence, and where each archive is.

A hash stands here only where independent projects have recorded the same one; otherwise it is None, and fetching
asks for ``trust_on_first_use``. Sets behind a form or a login have no address: their archive is downloaded by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

_NC = "CC BY-NC-SA 4.0"
_NC_URL = "https://creativecommons.org/licenses/by-nc-sa/4.0/"
_BY = "CC BY 4.0"
_BY_URL = "https://creativecommons.org/licenses/by/4.0/"
_TERMS = {
    _NC: "attribution, no commercial use, share alike",
    _BY: "attribution",
    "Kaggle rules": "those of the competition, to be accepted there",
    "none stated": "for research; cite the authors",
}


@dataclass(frozen=True)
class RemoteFile:
    """One archive of a data set."""

    filename: str
    url: str | None = None  # None: by hand only
    sha256: str | None = None  # None: not known
    size: int | None = None  # bytes
    folder: str = ""  # where its content goes, below the data set's folder


@dataclass(frozen=True)
class RemoteDataset:
    """A public data set and the terms on which it may be used."""

    name: str
    title: str
    publisher: str
    page: str
    licence: str
    licence_url: str
    layout: str  # a name of andon.data.layouts.LAYOUTS
    files: tuple[RemoteFile, ...]
    manual: str = ""  # what to do by hand, where the publisher asks for a form or a login

    @property
    def terms(self) -> str:
        """The licence's terms in a few words, where they are known."""
        return _TERMS.get(self.licence, "")

    @property
    def licence_and_terms(self) -> str:
        """The licence's name, and its terms where they are known."""
        return f"{self.licence}: {self.terms}" if self.terms else self.licence


_AUTOVI_SHA256 = {
    "engine_wiring": "252590d3249f7fbdf83a7e9b735ef0df175adc218460247e9a63bef1c03d420c",
    "pipe_clip": "955bb17b3a471e23979f46f998a4723acd00cf3afc4d5edf0578dfb6ea80d6c3",
    "pipe_staple": "fb9287f2cc86d660310e9886fdebbe2bd17269e853e29d06d708c6a996df1b18",
    "tank_screw": "48d7193164b36de03cc10c9f7b1b64ea98a0ce7aa57867c8f1d96341c497b4b0",
    "underbody_pipes": "fc1e53336d46fb2317d71e95c011bac012b609f2898fdb02780c920c19a113c7",
    "underbody_screw": "3e9bf6a43033a22c7c9f927a43c392a3b037d22580a27a48d379d4504d9cc6cf",
}
_FORM = "Open the page, fill in the form, accept the licence and download the archive"

DATASETS: dict[str, RemoteDataset] = {
    data.name: data
    for data in (
        RemoteDataset(
            "autovi",
            "AutoVI: automotive visual inspection, six tasks of a production line",
            "Renault Group and Université de technologie de Compiègne",
            "https://doi.org/10.5281/zenodo.10459003",
            _NC,
            _NC_URL,
            "autovi",
            tuple(
                RemoteFile(
                    f"{name}.zip",
                    f"https://zenodo.org/records/10459003/files/{name}.zip",
                    sha256,
                    folder=name,
                )
                for name, sha256 in _AUTOVI_SHA256.items()
            ),
        ),
        RemoteDataset(
            "mvtec_ad",
            "MVTec AD: 15 categories of objects and textures",
            "MVTec Software GmbH",
            "https://www.mvtec.com/company/research/datasets/mvtec-ad/downloads",
            _NC,
            _NC_URL,
            "mvtec_ad",
            (
                RemoteFile(
                    "mvtec_anomaly_detection.tar.xz",
                    sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
                ),
            ),
            manual=_FORM,
        ),
        RemoteDataset(
            "mvtec_loco",
            "MVTec LOCO AD: five categories with structural and logical anomalies",
            "MVTec Software GmbH",
            "https://www.mvtec.com/company/research/datasets/mvtec-loco/downloads",
            _NC,
            _NC_URL,
            "mvtec_loco",
            (
                RemoteFile(
                    "mvtec_loco_anomaly_detection.tar.xz",
                    sha256="9e7c84dba550fd2e59d8e9e231c929c45ba737b6b6a6d3814100f54d63aae687",
                    size=6_126_996_224,
                ),
            ),
            manual=_FORM,
        ),
        RemoteDataset(
            "visa",
            "VisA: 12 categories, 10,821 images",
            "Amazon",
            "https://github.com/amazon-science/spot-diff",
            _BY,
            _BY_URL,
            "visa",
            (
                RemoteFile(
                    "VisA_20220922.tar",
                    "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
                    "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
                    1_929_840_640,
                ),
            ),
        ),
        RemoteDataset(
            "btad",
            "BTAD: three industrial products, body and surface defects",
            "beanTech and the University of Udine",
            "https://avires.dimi.uniud.it/papers/btad/",
            _NC,
            _NC_URL,
            "btad",
            (
                RemoteFile(
                    "btad.zip",
                    "https://avires.dimi.uniud.it/papers/btad/btad.zip",
                    "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
                ),
            ),
        ),
        RemoteDataset(
            "kolektor_sdd",
            "KolektorSDD: surfaces of plastic commutators, 50 items",
            "Kolektor Group and ViCoS, University of Ljubljana",
            "https://www.vicos.si/resources/kolektorsdd/",
            _NC,
            _NC_URL,
            "kolektor_sdd",
            (
                RemoteFile(
                    "KolektorSDD.zip",
                    "https://go.vicos.si/kolektorsdd",
                    "65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
                    101_831_129,
                ),
            ),
        ),
        RemoteDataset(
            "kolektor_sdd2",
            "KolektorSDD2: surfaces of production items, 3,335 images",
            "Kolektor Group and ViCoS, University of Ljubljana",
            "https://www.vicos.si/resources/kolektorsdd2/",
            _NC,
            _NC_URL,
            "kolektor_sdd2",
            (
                RemoteFile(
                    "KolektorSDD2.zip",
                    "https://go.vicos.si/kolektorsdd2",
                    "edcdb486809b24f1d17b785e30c52fafc5999554dd5fe18ddf77b61ceb6f36a8",
                    853_126_555,
                ),
            ),
        ),
        RemoteDataset(
            "dagm",
            "DAGM 2007: ten artificial textures with defects",
            "M. Wieler and T. Hahn, for the DAGM symposium 2007",
            "https://zenodo.org/records/12750201",
            _BY,
            _BY_URL,
            "dagm",
            (RemoteFile("DAGM.zip"),),
            manual="Open the page, download the archive, and unpack it or name it DAGM.zip",
        ),
        RemoteDataset(
            "severstal",
            "Severstal: flat steel sheets, 12,568 labelled images",
            "PAO Severstal",
            "https://www.kaggle.com/c/severstal-steel-defect-detection/data",
            "Kaggle rules",
            "https://www.kaggle.com/c/severstal-steel-defect-detection/rules",
            "severstal",
            (RemoteFile("severstal-steel-defect-detection.zip"),),
            manual="Log in to Kaggle, accept the rules and download all files",
        ),
        RemoteDataset(
            "neu",
            "NEU-DET: six kinds of defects of hot-rolled steel, no good images",
            "Northeastern University, K. Song and Y. Yan",
            "http://faculty.neu.edu.cn/songkechen/zh_CN/zdylm/263270/list/",
            "none stated",
            "http://faculty.neu.edu.cn/songkechen/zh_CN/zdylm/263270/list/",
            "neu",
            (RemoteFile("NEU-DET.zip"),),
            manual="Open the page and download the archive from one of its mirrors",
        ),
    )
}
