"""The looks of the page."""

CSS = """
:root{--ink:#1d2530;--soft:#5b6675;--line:#dfe3e8;--back:#fff;--good:#2f7fb8;--bad:#d9701e;--mark:#b3261e}
*{box-sizing:border-box}
body{margin:0;background:#f4f5f7;color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 24px 60px}
header{border-bottom:1px solid var(--line);margin-bottom:8px;padding-bottom:12px}
.crumb{margin:0;color:var(--soft);font-size:13px}
h1{margin:2px 0 10px;font-size:21px;font-weight:600}
.headline{margin:0;font-size:25px;line-height:1.32;font-weight:650;max-width:62ch}
.caveats{margin:14px 0 0;padding-left:18px;color:var(--soft)}
section{background:var(--back);border:1px solid var(--line);border-radius:8px;margin:18px 0;padding:16px 20px}
h2{margin:0 0 6px;font-size:17px}
h3{margin:8px 0 2px;font-size:13px;font-weight:600;overflow-wrap:anywhere}
.say{margin:0 0 12px;color:var(--soft);max-width:90ch;font-size:14px}
table+.say,.wide+.say{margin:10px 0 0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:22px}
.charts figure{max-width:470px}
figure{margin:0}
figcaption{color:var(--soft);font-size:13px}
svg{display:block;width:100%;height:auto}
svg text{font-size:11.5px;fill:var(--soft)}
svg .label{font-size:12.5px;fill:var(--ink)}
svg .note{fill:var(--mark);font-weight:600}
.grid{stroke:#e9ecf0}.axis{stroke:#9aa4b0}
polyline{fill:none;stroke-width:2}
.chance{stroke:#c3cad2;stroke-dasharray:4 4;stroke-width:1.2}
.threshold{stroke:var(--mark);stroke-width:1.6;stroke-dasharray:5 3}
.passes{stroke:var(--good);stroke-width:1.6;stroke-dasharray:5 3}
.bar-good{fill:var(--good);fill-opacity:.62}.bar-bad{fill:var(--bad);fill-opacity:.58}
.bar-good-key,.bar-bad-key{stroke-width:9}
.bar-good-key{stroke:var(--good)}.bar-bad-key{stroke:var(--bad)}
.line-a{stroke:#1d2530}.line-b{stroke:#d9701e}.line-c{stroke:#2f7fb8}
.line-d{stroke:#2a9d6f}.line-e{stroke:#9156b4}.line-f{stroke:#b08900}
.legend{margin:2px 0 4px;padding-left:40px;font-size:13px}
.legend span{display:inline-flex;align-items:center;margin-right:18px}
.key{width:18px;height:10px;margin-right:6px}.key line{stroke-width:3}
.legend .bar-good-key,.legend .bar-bad-key{stroke-width:10}
table{border-collapse:collapse;font-size:14px}
.wide{overflow-x:auto}.wide table{width:100%;font-size:13px}
.wide th,.wide td{padding:5px 6px}.wide small{font-size:10.5px}
th,td{text-align:left;padding:5px 9px;vertical-align:top;border-bottom:1px solid #eef0f3}
thead th{color:var(--soft);font-weight:600;font-size:12.5px;vertical-align:bottom;
border-bottom:1px solid #cfd5dc}
tbody th{font-weight:500;white-space:nowrap}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td small,th small{display:block;color:var(--soft);font-size:11.5px;font-weight:400}
.group th{color:var(--soft);font-size:12.5px;padding-top:12px;background:#fafbfc}
.main th,.main td{font-weight:650}.main small{font-weight:400}
.kinds{width:100%;max-width:820px}.kinds tr.first>*{border-top:1px solid #cfd5dc}
.kinds td{border:0;padding:2px 9px}
.kinds th{border:0}
.track{display:inline-block;width:260px;max-width:40vw;height:11px;background:#eef0f3;border-radius:3px;
vertical-align:middle;margin-right:8px}
.track span{display:block;height:100%;border-radius:3px}
.strong{background:var(--good)}.weak{background:var(--bad)}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(460px,100%),1fr));gap:20px}
.panes{display:grid;grid-template-columns:repeat(auto-fit,minmax(105px,1fr));gap:4px}
.panes figcaption{font-size:11.5px;text-align:center}
.panes img{width:100%;height:auto;border-radius:5px;background:#222;display:block}
article p{margin:0 0 4px;font-size:13px}
.scores{font-size:12.5px}.scores td{border:0;padding:0 14px 0 0;color:var(--soft)}
.identity td{overflow-wrap:anywhere}.identity th{color:var(--soft)}
dt{font-weight:600;margin-top:6px}dd{margin:0;color:var(--soft)}
details{margin:18px 0;border:1px solid var(--line);border-radius:8px;padding:0 18px;background:#fafbfc}
summary{cursor:pointer;padding:12px 0;font-weight:600}
a{color:var(--good)}
.wide .fates{width:auto}.fates .n{min-width:70px}
.fates .over{text-align:center}
@media(max-width:600px){main{padding:16px 10px 40px}section{padding:12px;overflow-x:auto}
.headline{font-size:20px}
.fates .n{min-width:0}.legend{padding-left:0}th,td{padding:4px 5px}.kinds tbody th{white-space:normal}
.track{width:110px;max-width:26vw}
.identity,.identity tbody,.identity tr,.identity th,.identity td{display:block}.identity td{border:0}}
@media print{body{background:#fff}section{break-inside:avoid}details{border:0}}
"""
