"""The style sheet of the report: light and dark, from a telephone to a wide screen."""

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#16202c;--soft:#5a6675;--line:#e1e5ea;--blue:#2563c9;
--orange:#d9691a;--warn:#fff4dd;--warn-ink:#6b4400;--warn-line:#f0c46a;--blue-rgb:37,99,201;--orange-rgb:217,105,26}
@media(prefers-color-scheme:dark){:root{--bg:#11161c;--card:#1a2129;--ink:#e6ebf1;--soft:#9aa7b5;--line:#2c3641;
--blue:#6ea3f5;--orange:#f0944d;--warn:#33280f;--warn-ink:#f5d595;--warn-line:#6e5518;--blue-rgb:88,146,240;
--orange-rgb:240,148,77}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
header h1{font-size:26px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
header p{margin:0 0 20px;color:var(--soft)}
h2{font-size:17px;margin:0 0 4px}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:0 0 16px}
.note{color:var(--soft);margin:0 0 12px;font-size:14px;max-width:75ch}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0 0 16px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:24px;line-height:1.25;font-weight:650;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:13px}
.warning{background:var(--warn);color:var(--warn-ink);border:1px solid var(--warn-line);border-radius:10px;
padding:12px 16px;margin:0 0 12px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:16px;margin:0 0 16px}
.charts section{margin:0}
.scroll{overflow-x:auto;margin:0 -20px;padding:0 20px}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-weight:600;font-size:13px;white-space:nowrap;vertical-align:bottom}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.id{overflow-wrap:anywhere;min-width:13ch;font-family:ui-monospace,Menlo,Consolas,monospace;font-size:13px}
.text{overflow-wrap:anywhere;min-width:20ch;max-width:52ch;color:var(--soft)}
.share{position:relative;min-width:90px}
.share i{position:absolute;left:10px;bottom:3px;height:3px;border-radius:2px;background:var(--blue)}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font-size:12px}
svg .grid{stroke:var(--line)}
svg .bar{fill:var(--blue)}
svg .even{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:5 4;opacity:.65}
svg .curve{fill:none;stroke-width:2.5;stroke:var(--blue)}
svg .curve.plain{stroke:var(--orange)}
.key{font-size:13px;color:var(--soft);margin:4px 0 0}
.key i{display:inline-block;width:14px;height:3px;border-radius:2px;vertical-align:middle;margin:0 5px 0 12px;
background:var(--blue)}
.key i:first-child{margin-left:0}
.key i.plain{background:var(--orange)}
.confusion{width:auto;font-variant-numeric:tabular-nums}
.confusion th,.confusion td{border:0;padding:2px}
.confusion td{min-width:38px;height:32px;text-align:center;vertical-align:middle;border-radius:4px;font-size:12.5px}
.confusion thead th{height:96px;vertical-align:bottom;padding:0 2px 6px}
.confusion thead span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:90px;overflow:hidden;
text-overflow:ellipsis;white-space:nowrap}
.confusion tbody th{text-align:right;padding-right:8px;white-space:nowrap;max-width:180px;overflow:hidden;
text-overflow:ellipsis;color:var(--soft);font-weight:500;vertical-align:middle}
.confusion .right{background:rgba(var(--blue-rgb),calc(.06 + .7*var(--s)))}
.confusion .wrong{background:rgba(var(--orange-rgb),calc(.03 + .9*var(--s)))}
.confusion .strong{color:#fff}
@media(prefers-color-scheme:dark){.confusion .strong{color:#0b0f14}}
ul.chips{list-style:none;display:flex;flex-wrap:wrap;gap:8px;padding:0;max-width:none}
ul.chips li{margin:0;padding:3px 11px;border:1px solid var(--line);border-radius:999px;font-size:13.5px}
.chips b{margin-left:7px;font-variant-numeric:tabular-nums}
section>p{margin:0 0 10px;max-width:90ch}
ul{margin:0;padding:0 0 0 20px;max-width:80ch}
li{margin:4px 0}
footer{color:var(--soft);font-size:13px}
@media(max-width:520px){main{padding:18px 12px 40px}section{padding:14px}.scroll{margin:0 -14px;padding:0 14px}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.tile{padding:10px 12px}.tile b{font-size:20px}header h1{font-size:22px}}
@media print{body{background:#fff}section,.tile{break-inside:avoid}}
""".replace("\n", "")
